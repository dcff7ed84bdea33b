// A thread of a simulated node: a fiber with a stack of its own, or an OS
// thread that runs only while it holds the baton.

#ifndef REPRISE_SIM_WORLD_FIBER_H_
#define REPRISE_SIM_WORLD_FIBER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "sim/world/baton_thread.h"
#include "sim/world/race_annotations.h"
#include "sim/world/site.h"

#if defined(__SANITIZE_ADDRESS__)
#define REPRISE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define REPRISE_ASAN 1
#endif
#endif

namespace reprise {

class World;
struct Fiber;
struct InterposedThread;
struct Node;

// The stacks of the fibers of one OS thread, which are used again. Until a page
// of a stack is touched it costs only address space.
class StackPool {
 public:
  // Below a stack lies so much memory that cannot be touched: more than one
  // page, so that a large local variable does not reach over it into the next
  // stack. It costs address space only. Those beyond the first 16,000 stacks of
  // the process have none.
  static constexpr size_t kGuardBytes = size_t{4} << 20;
  // What `Take` gives if it is asked for 0 bytes. Sanitizers need more.
  static const size_t kDefaultBytes;

  static StackPool& OfThisThread();

  struct Stack {
    char* low = nullptr;  // lowest usable address
    size_t size = 0;
    size_t guard = 0;  // bytes below it that cannot be touched
  };
  // A stack of `bytes`, rounded up to whole pages; 0: of kDefaultBytes. The
  // process ends if there is no memory for it.
  Stack Take(size_t bytes = 0);
  void Return(Stack stack);

  // To be called before a stack is used again in a build with a sanitizer: it
  // forgets what the sanitizer knows of frames that never returned.
  static void Wipe(Stack stack);

  ~StackPool();

 private:
  static void Unmap(Stack stack);

  std::vector<Stack> free_;
};

// What the threads of a world are. A seed's run is the same in both.
enum class ContextKind : uint8_t {
  kFibers,   // of one OS thread; a switch takes some 30 ns
  kThreads,  // OS threads; a switch takes microseconds. For debuggers, for
             // ThreadSanitizer, and for code that is particular about threads
};

// ThreadSanitizer cannot follow fibers.
inline constexpr ContextKind kDefaultContext =
    kHasTsan ? ContextKind::kThreads : ContextKind::kFibers;

// A thread of execution that can be left and continued later, or the OS
// thread's own stack on which `Run` was called. All contexts between which a
// world switches are of one kind.
class ExecutionContext {
 public:
  // The calling thread's own.
  explicit ExecutionContext(ContextKind kind = ContextKind::kFibers);
  // At the first switch to it, calls `entry(argument)`, which must not return.
  ExecutionContext(StackPool::Stack stack, void (*entry)(void*),
                   void* argument);
  // The same on an OS thread with this name.
  ExecutionContext(const std::string& name, void (*entry)(void*),
                   void* argument);

  // Leaves `from`, which must be running, and continues `to`. Returns when
  // another switch continues `from`. `for_good` says that none will.
  static void Switch(ExecutionContext& from, ExecutionContext& to,
                     bool for_good = false);

  // To be called for a context that will not be continued, before it is
  // destroyed: ends its OS thread if it has one. Its stack is not unwound.
  void End();

 private:
  friend struct ContextEntry;
  friend int StackOfSuspended(Fiber& fiber, void** frames, int max);
  void FinishSwitch();

  std::unique_ptr<BatonThread> thread_;  // null: a fiber
  void* context_ = nullptr;
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  // The C++ runtime's record of the exceptions that this thread handles.
  void* exceptions_[2] = {nullptr, nullptr};
  StackPool::Stack stack_;
#ifdef REPRISE_ASAN
  void* fake_stack_ = nullptr;
#endif
};

enum class FiberState : uint8_t { kReady, kRunning, kBlocked, kDone, kDead };

// What a blocked fiber waits for. Reports of a deadlock show it.
struct WaitReason {
  const char* verb = "";  // "locks", "waits for", "sleeps", "joins"
  std::string_view name;  // of the mutex, the condition variable, the fiber
  // Points to the Fiber that holds the mutex, if it is a mutex.
  const void* const* holder = nullptr;
};

struct Fiber {
  World* world = nullptr;
  Node* node = nullptr;
  std::string label;  // "w1/worker-0", unique in the world
  ThreadSites sites;
  uint64_t label_hash = 0;
  uint64_t id = 0;
  bool daemon = false;  // the world ends without waiting for it
  FiberState state = FiberState::kReady;
  int64_t priority = 0;  // under PCT
  ExecutionContext context;
  StackPool::Stack stack;
  absl::AnyInvocable<void()> body;

  Fiber* next_waiter = nullptr;  // in the queue it waits in
  Fiber* joiner = nullptr;
  WaitReason waiting;
  int64_t wake_ns = 0;                 // valid while blocked with a deadline
  const void* wait_address = nullptr;  // of a futex or a foreign lock
  uint64_t wait_count = 0;  // tells the alarm of this wait from earlier alarms
  bool timed_out = false;
  // What sim/interpose keeps for this fiber, as a thread of libc.
  InterposedThread* interposed = nullptr;
};

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_FIBER_H_
