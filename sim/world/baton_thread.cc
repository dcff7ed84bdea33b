#include "sim/world/baton_thread.h"

#include <dlfcn.h>
#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "sim/world/arena.h"
#include "sim/world/interposition.h"
#include "sim/world/race_annotations.h"
#include "sim/world/static_guard.h"

// No memory access and no atomic of such a function is seen by TSan.
#if defined(__clang__)
#define REPRISE_UNSEEN __attribute__((disable_sanitizer_instrumentation))
#else
#define REPRISE_UNSEEN __attribute__((no_sanitize_thread))
#endif

// Clang's TSan is linked in, and has its own functions under these names.
extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier): TSan's names
__attribute__((weak)) int __interceptor_pthread_create(
    pthread_t* thread, const pthread_attr_t* attributes, void* (*main)(void*),
    void* argument);
__attribute__((weak)) int __interceptor_pthread_join(pthread_t thread,
                                                     void** result);
// NOLINTEND(bugprone-reserved-identifier)
}

namespace reprise {
namespace {

// Only what is touched costs memory. Sanitizers need several times more.
#if defined(REPRISE_TSAN) || defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = size_t{1} << 20;
#else
constexpr size_t kStackBytes = size_t{256} << 10;
#endif

// The functions of the system: in a world, those of the executable's may be
// about fibers.
struct RealFunctions {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*),
                         void*);
  using Join = int (*)(pthread_t, void**);
  Create create = &__interceptor_pthread_create != nullptr
                      ? &__interceptor_pthread_create
                      : Find<Create>("pthread_create");
  Join join = &__interceptor_pthread_join != nullptr
                  ? &__interceptor_pthread_join
                  : Find<Join>("pthread_join");

  template <typename Function>
  static Function Find(const char* name) {
    return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
  }
};

const RealFunctions& TheReal() {
  static const RealFunctions functions;
  return functions;
}

// Not by `syscall`, which the executable may define.
REPRISE_UNSEEN void Futex(uint32_t* word, int operation, uint32_t value) {
#if defined(__x86_64__)
  long result = SYS_futex;  // NOLINT(google-runtime-int): a register
  register const void* timeout asm("r10") = nullptr;
  asm volatile("syscall"
               : "+a"(result)
               : "D"(word), "S"(operation | FUTEX_PRIVATE_FLAG), "d"(value),
                 "r"(timeout)
               : "rcx", "r11", "memory");
#else
  syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, nullptr);
#endif
}

// Of the run to which the calling thread belongs.
void* ArenaOfRun() {
  const StaticScope::State statics = StaticScope::Suspend();
  void* const arena = ExchangeActiveArena(nullptr);
  ExchangeActiveArena(arena);
  StaticScope::Resume(statics);
  return arena;
}

// Null on threads that are none of a world's.
thread_local constinit BatonThread* t_self = nullptr;
// The frame from which the thread returns when it is told to end.
thread_local constinit void** t_way_out = nullptr;

}  // namespace

REPRISE_UNSEEN void BatonThread::Give(Word word) {
  __atomic_store_n(&word_, word, __ATOMIC_RELEASE);
  Futex(&word_, FUTEX_WAKE, 1);
}

// A jump must not end in the function in which it begins.
REPRISE_UNSEEN __attribute__((noinline)) void BatonThread::Wait() {
  uint32_t word = kWait;
  while ((word = __atomic_load_n(&word_, __ATOMIC_ACQUIRE)) == kWait) {
    Futex(&word_, FUTEX_WAIT, kWait);
  }
  if (word == kEnd) __builtin_longjmp(t_way_out, 1);
  __atomic_store_n(&word_, kWait, __ATOMIC_RELAXED);
}

REPRISE_UNSEEN void BatonThread::Switch(BatonThread& from, BatonThread& to) {
  to.Give(kGo);
  from.Wait();
}

BatonThread::BatonThread(const std::string& name, void (*entry)(void*),
                         void* argument)
    : is_ended_(false),
      entry_(entry),
      argument_(argument),
      arena_(ArenaOfRun()) {
  name.copy(name_, sizeof(name_) - 1);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  // The system takes its own share out of the stack.
  const auto share = static_cast<size_t>(sysconf(_SC_THREAD_STACK_MIN));
  pthread_attr_setstacksize(&attributes, kStackBytes + share);
  const int error = TheReal().create(&handle_, &attributes, &Main, this);
  pthread_attr_destroy(&attributes);
  if (error == 0) return;
  std::fprintf(stderr,
               "reprise: the system has no thread for '%s' (%s). With "
               "--context threads each thread of a world takes one; see "
               "ulimit -u, kernel.threads-max and vm.max_map_count\n",
               name.c_str(), std::strerror(error));
  std::abort();
}

BatonThread::~BatonThread() {
  if (is_ended_) return;
  std::fprintf(stderr, "reprise: thread '%s' was not ended\n", name_);
  std::abort();
}

void* BatonThread::Main(void* argument) {
  auto* const self = static_cast<BatonThread*>(argument);
  void* way_out[5];
  t_way_out = way_out;
  if (__builtin_setjmp(way_out) == 0) {
    self->Wait();
    prctl(PR_SET_NAME, self->name_);
    t_self = self;
    ExchangeActiveArena(self->arena_);
    self->entry_(self->argument_);
    std::abort();  // An entry never returns.
  }
  LeaveSimulator();
  ExchangeActiveArena(nullptr);
  // What still runs, such as TSan's own end of the thread, is answered by libc:
  // it never ends.
  alignas(RealCalls) char real[sizeof(RealCalls)];
  new (real) RealCalls();
  return nullptr;
}

void BatonThread::End() {
  if (is_ended_) return;
  is_ended_ = true;
  Give(kEnd);
  const UnseenSync that_they_were_joined;
  TheReal().join(handle_, nullptr);
}

// Destructors may make further objects.
void BatonThread::DestroyThreadLocals() {
  if (t_self == nullptr) return;
  std::vector<Destructor>& left = t_self->thread_locals_;
  while (!left.empty()) {
    const Destructor next = left.back();
    left.pop_back();
    next.function(next.object);
  }
}

struct ThreadLocals {
  static bool Note(void (*destructor)(void*), void* object) {
    if (t_self == nullptr) return false;
    t_self->thread_locals_.push_back({destructor, object});
    return true;
  }
};

}  // namespace reprise

// The compiler has every `thread_local` with a destructor noted here. The
// system would run the destructors after the thread has given the baton away.
// NOLINTNEXTLINE(bugprone-reserved-identifier): its name in the ABI
extern "C" int __cxa_thread_atexit_impl(void (*destructor)(void*), void* object,
                                        void* dso) {
  if (reprise::ThreadLocals::Note(destructor, object)) return 0;
  static const auto real =
      reinterpret_cast<int (*)(void (*)(void*), void*, void*)>(
          dlsym(RTLD_NEXT, "__cxa_thread_atexit_impl"));
  return real(destructor, object, dso);
}
