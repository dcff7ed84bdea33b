#include "sim/world/fiber.h"

#include <cxxabi.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <boost/context/detail/fcontext.hpp>
#include <cstdlib>
#include <cstring>

#include "sim/world/arena.h"
#include "sim/world/interposition.h"

#ifdef REPRISE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace reprise {
namespace {

namespace fcontext = boost::context::detail;

// Only what is touched costs memory. Sanitizers need several times more.
#ifdef REPRISE_ASAN
constexpr size_t kStackBytes = size_t{512} << 10;
#else
constexpr size_t kStackBytes = size_t{128} << 10;
#endif

// Each guard page costs two of the 65,530 mappings that Linux grants a process,
// so a world with more stacks than this has no guards below the others.
constexpr size_t kMostGuardPages = 16'000;
std::atomic<size_t> num_stacks{0};

}  // namespace

StackPool& StackPool::OfThisThread() {
  thread_local StackPool pool;
  return pool;
}

StackPool::Stack StackPool::Take() {
  if (!free_.empty()) {
    Stack stack = free_.back();
    free_.pop_back();
    return stack;
  }
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory =
      mmap(nullptr, kStackBytes + page, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) {
    static constexpr char kMessage[] =
        "reprise: no memory for a fiber's stack (see vm.max_map_count)\n";
    [[maybe_unused]] ssize_t written =
        write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
    std::abort();
  }
  if (num_stacks.fetch_add(1) < kMostGuardPages) {
    mprotect(memory, page, PROT_NONE);
  }
  return {static_cast<char*>(memory) + page, kStackBytes};
}

void StackPool::Return(Stack stack) {
  Wipe(stack);
  ArenaPause outlives_the_run;
  free_.push_back(stack);
}

void StackPool::Wipe([[maybe_unused]] Stack stack) {
#ifdef REPRISE_ASAN
  __asan_unpoison_memory_region(stack.low, stack.size);
#endif
}

StackPool::~StackPool() {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (Stack stack : free_) munmap(stack.low - page, stack.size + page);
}

// What a new context runs first.
struct ContextEntry {
  static void Run(fcontext::transfer_t transfer) {
    auto* pair = static_cast<ExecutionContext**>(transfer.data);
    pair[0]->context_ = transfer.fctx;
    ExecutionContext* self = pair[1];
    self->FinishSwitch();
    self->entry_(self->argument_);
    std::abort();  // An entry never returns.
  }
};

ExecutionContext::ExecutionContext(ContextKind kind)
    : thread_(kind == ContextKind::kThreads ? std::make_unique<BatonThread>()
                                            : nullptr) {}

ExecutionContext::ExecutionContext(const std::string& name,
                                   void (*entry)(void*), void* argument)
    : thread_(std::make_unique<BatonThread>(name, entry, argument)) {}

void ExecutionContext::End() {
  if (thread_ != nullptr) thread_->End();
}

ExecutionContext::ExecutionContext(StackPool::Stack stack, void (*entry)(void*),
                                   void* argument)
    : context_(fcontext::make_fcontext(stack.low + stack.size, stack.size,
                                       &ContextEntry::Run)),
      entry_(entry),
      argument_(argument),
      stack_(stack) {}

void ExecutionContext::FinishSwitch() {
#ifdef REPRISE_ASAN
  __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
#endif
}

void ExecutionContext::Switch(ExecutionContext& from, ExecutionContext& to,
                              [[maybe_unused]] bool for_good) {
  if (from.thread_ != nullptr) {
    BatonThread::Switch(*from.thread_, *to.thread_);
    return;
  }
  void* exceptions = abi::__cxa_get_globals();
  std::memcpy(from.exceptions_, exceptions, sizeof(from.exceptions_));
  std::memcpy(exceptions, to.exceptions_, sizeof(to.exceptions_));
#ifdef REPRISE_ASAN
  if (from.stack_.low == nullptr && from.stack_.size == 0) {
    // The OS thread's own stack: ask for its bounds once.
    const RealCalls real;
    const void* low = nullptr;
    size_t size = 0;
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
      void* address = nullptr;
      pthread_attr_getstack(&attributes, &address, &size);
      pthread_attr_destroy(&attributes);
      low = address;
    }
    from.stack_ = {static_cast<char*>(const_cast<void*>(low)), size};
  }
  __sanitizer_start_switch_fiber(for_good ? nullptr : &from.fake_stack_,
                                 to.stack_.low, to.stack_.size);
#endif
  ExecutionContext* pair[2] = {&from, &to};
  fcontext::transfer_t transfer =
      fcontext::jump_fcontext(to.context_, static_cast<void*>(pair));
  // Another context has switched back to `from`.
  auto* back = static_cast<ExecutionContext**>(transfer.data);
  back[0]->context_ = transfer.fctx;
  from.FinishSwitch();
}

}  // namespace reprise
