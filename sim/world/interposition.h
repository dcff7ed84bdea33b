// How a world and sim/interpose meet. The entry points of libc, libstdc++ and
// libabsl that block, start threads, read clocks or draw random numbers are
// defined in the simulator's executable (sim/interpose). Called by a fiber,
// they are answered by its world, and otherwise by the real functions.
//
// Not thread-safe, as worlds are not.

#ifndef REPRISE_SIM_WORLD_INTERPOSITION_H_
#define REPRISE_SIM_WORLD_INTERPOSITION_H_

namespace reprise {

class World;
struct Fiber;
struct Node;

// What sim/interpose wants to be told. It registers itself while the program
// starts; a program without it has none, and its fibers must not use threads,
// locks or clocks of libc.
struct Interposition {
  // Before each fork of a child that runs worlds: does once what else each
  // child would take its time for.
  void (*prepare_child)();
  // On the OS thread that called `World::Run`, before the first fiber runs and
  // after the last one has. `run_ends` may fail the run.
  void (*run_begins)(World& world);
  void (*run_ends)(World& world);
  // On the fiber, as the last thing that it does.
  void (*fiber_ends)(Fiber& fiber);
  // After the fibers of `node` have died.
  void (*node_crashed)(Node& node);
};

// Null: there is none. Set before `main`.
inline constinit const Interposition* interposition = nullptr;

// While one exists, this OS thread's calls are answered by the real functions,
// on a fiber too: for the simulator's own needs. The fiber must not be switched
// away from meanwhile.
class RealCalls {
 public:
  RealCalls() { ++depth_; }
  RealCalls(const RealCalls&) = delete;
  RealCalls& operator=(const RealCalls&) = delete;
  ~RealCalls() { --depth_; }

  static bool IsActive() { return depth_ != 0; }

 private:
  static inline thread_local constinit int depth_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_INTERPOSITION_H_
