// A thread of a simulated node, as a fiber with a stack of its own.

#ifndef REPRISE_SIM_WORLD_FIBER_H_
#define REPRISE_SIM_WORLD_FIBER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"

namespace reprise {

class World;
struct Node;

// Recycled stacks of one OS thread. A stack has a guard page below it and
// costs address space until it is touched.
class StackPool {
 public:
  static StackPool& OfThisThread();

  struct Stack {
    char* low = nullptr;  // lowest usable address
    size_t size = 0;
  };
  Stack Take();
  void Return(Stack stack);

  // Before a stack is used again: forgets what a sanitizer knows of the frames
  // that were never returned from.
  static void Wipe(Stack stack);

  ~StackPool();

 private:
  std::vector<Stack> free_;
};

// The place where a thread of execution can be left and taken up again. Also
// stands for the OS thread's own stack, which `Run` was called on.
class ExecutionContext {
 public:
  // An empty one, for the OS thread's own stack.
  ExecutionContext() = default;
  // One that calls `entry(argument)`, which must never return, at the first
  // switch to it.
  ExecutionContext(StackPool::Stack stack, void (*entry)(void*),
                   void* argument);

  // Leaves `from`, which must be the running one, for `to`. Returns when
  // something switches back. With `for_good`, nothing ever will.
  static void Switch(ExecutionContext& from, ExecutionContext& to,
                     bool for_good = false);

 private:
  friend struct ContextEntry;
  void FinishSwitch();

  void* context_ = nullptr;
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  // The C++ runtime's per-thread record of exceptions being handled.
  void* exceptions_[2] = {nullptr, nullptr};
  StackPool::Stack stack_;
  [[maybe_unused]] void* fake_stack_ = nullptr;  // of AddressSanitizer
};

enum class FiberState : uint8_t { kReady, kRunning, kBlocked, kDone, kDead };

// What a blocked fiber waits for, for reports.
struct WaitReason {
  const char* verb = "";  // "locks", "waits for", "sleeps", "joins"
  std::string_view name;  // of the mutex, the condition variable, the fiber
  const void* const* holder = nullptr;  // where the holding Fiber is to be seen
};

struct Fiber {
  World* world = nullptr;
  Node* node = nullptr;
  std::string label;  // "w1/worker-0", unique in the world
  uint64_t label_hash = 0;
  uint64_t id = 0;
  bool daemon = false;  // does not keep the world running
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
  uint64_t wait_count = 0;  // tells this wait's alarm from an earlier one's
  bool timed_out = false;
};

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_FIBER_H_
