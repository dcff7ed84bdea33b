// Statics that user code makes inside a run.
//
// A function-local static lives as long as the process, but the run in which it
// is first touched ends long before. So that it survives from run to run, what
// its initialiser allocates does not come from the run's arena. So that the run
// is the same whether the static existed before or not, there are no points in
// the initialiser: it visits no site of a decision. And a fiber that touches a
// static whose initialiser is blocked waits as a fiber, and not as the OS
// thread that all fibers share.
//
// The compiler brackets an initialiser by `__cxa_guard_acquire` and
// `__cxa_guard_release` (or `_abort`), which static_guard.cc defines. Code that
// makes an object for the process by other means, such as `pthread_once`, may
// do the same by a `StaticScope`.
//
// Not thread-safe, as worlds are not. Outside runs, and for statics that
// another OS thread makes outside of this world, a guard does what it does
// without us.

#ifndef REPRISE_SIM_WORLD_STATIC_GUARD_H_
#define REPRISE_SIM_WORLD_STATIC_GUARD_H_

#include <cstddef>

namespace reprise {

struct Fiber;
struct Node;

// The statics whose initialisers run on fibers of a world. Those of other OS
// threads are waited for by libstdc++: their end wakes no fiber of this world.
class PendingStatics {
 public:
  PendingStatics() = default;
  PendingStatics(const PendingStatics&) = delete;
  PendingStatics& operator=(const PendingStatics&) = delete;

  void Add(void* guard, Fiber* maker);
  void Remove(void* guard);
  bool Contains(void* guard) const;

  // To be called when a node crashes: others may make what its fibers began.
  void ReleaseOf(const Node& node) { Release(&node); }
  // To be called when no fiber will run any more.
  void ReleaseAll() { Release(nullptr); }

 private:
  struct Pending {
    void* guard;
    Fiber* maker;
  };
  static constexpr size_t kMost = 64;

  void Release(const Node* of);  // null: all

  Pending pending_[kMost] = {};
  size_t size_ = 0;
};

// While one exists, the code on this stack initialises an object of the
// process. They nest.
class StaticScope {
 public:
  StaticScope() { Begin(); }
  StaticScope(const StaticScope&) = delete;
  StaticScope& operator=(const StaticScope&) = delete;
  ~StaticScope() { End(); }

  static void Begin();
  static void End();
  static bool IsActive() { return state_.depth != 0; }

  struct State {
    int depth = 0;
    void* arena = nullptr;  // the arena that is paused meanwhile
  };
  // For the scheduler: a switch of stacks leaves the scopes of the one behind,
  // and takes them up again when it is continued.
  static State Suspend() { return IsActive() ? Leave() : State(); }
  static void Resume(const State& state) {
    if (state.depth != 0) Enter(state);
  }

 private:
  static State Leave();
  static void Enter(const State& state);

  static thread_local constinit State state_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_STATIC_GUARD_H_
