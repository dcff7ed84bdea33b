// The agent's real runtime on a node of a world.
//
// It is the object code that `RealRuntime()` runs: `std::mutex`,
// `std::condition_variable`, `std::thread` and the clocks of libc, all of which
// this folder stands in for. What is added are the points at which the schedule
// may switch or stall, and the names by which decisions and reports know locks,
// waits and threads. Both are those of `SimRuntime`, so a decision that was
// recorded with one runtime is found with the other.

#ifndef REPRISE_SIM_INTERPOSE_NODE_RUNTIME_H_
#define REPRISE_SIM_INTERPOSE_NODE_RUNTIME_H_

#include <memory>

#include "agent/runtime/runtime.h"
#include "sim/world/world.h"

namespace reprise {

// For the fibers of `node`, which must be OS threads, since the runtime tells
// threads apart by a `thread_local`. It must not outlive the world. Its clock
// begins when this is called, as in a process that starts then.
std::unique_ptr<Runtime> MakeRealRuntimeOn(World& world, Node& node);

}  // namespace reprise

#endif  // REPRISE_SIM_INTERPOSE_NODE_RUNTIME_H_
