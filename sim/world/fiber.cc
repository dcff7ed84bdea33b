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

size_t PageBytes() {
  static const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return page;
}

// Each guard costs two of the 65,530 mappings that Linux grants a process, so a
// world with more stacks than this has no guards below the others.
constexpr size_t kMostGuards = 16'000;
std::atomic<size_t> num_guards{0};

}  // namespace

#ifdef REPRISE_ASAN
const size_t StackPool::kDefaultBytes = size_t{512} << 10;
#else
const size_t StackPool::kDefaultBytes = size_t{128} << 10;
#endif

StackPool& StackPool::OfThisThread() {
  thread_local StackPool pool;
  return pool;
}

StackPool::Stack StackPool::Take(size_t bytes) {
  if (bytes == 0) bytes = kDefaultBytes;
  bytes = (bytes + PageBytes() - 1) / PageBytes() * PageBytes();
  // All stacks of a run have one size, so those of another are of no more use.
  while (!free_.empty()) {
    const Stack stack = free_.back();
    free_.pop_back();
    if (stack.size == bytes) return stack;
    Unmap(stack);
  }
  const size_t guard = num_guards.fetch_add(1) < kMostGuards ? kGuardBytes : 0;
  void* memory = mmap(
      nullptr, bytes + guard, guard == 0 ? PROT_READ | PROT_WRITE : PROT_NONE,
      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  char* const low = static_cast<char*>(memory) + guard;
  if (memory == MAP_FAILED ||
      (guard != 0 && mprotect(low, bytes, PROT_READ | PROT_WRITE) != 0)) {
    static constexpr char kMessage[] =
        "reprise: no memory for a fiber's stack (see vm.max_map_count)\n";
    [[maybe_unused]] ssize_t written =
        write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
    std::abort();
  }
  return {low, bytes, guard};
}

void StackPool::Unmap(Stack stack) {
  munmap(stack.low - stack.guard, stack.size + stack.guard);
  num_guards.fetch_sub(1);
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
  for (Stack stack : free_) Unmap(stack);
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
