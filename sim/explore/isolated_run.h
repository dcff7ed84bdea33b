// One run in a process of its own, so that it gives a result whatever it does.
//
// A run that ends its process, or hangs, fails like any other: by the rule
// `crash`, `stack-overflow`, `exception`, `exit` or `hang` (obituary.h), with
// the events and decisions up to there and the stacks of the fibers. For a hang
// `SimRunOptions` has bounds: `max_wall_seconds` of CPU time, or of real time
// in which the process sleeps, and `max_idle_seconds` of the same in which no
// event is recorded (0: none).
//
// Nothing that a run leaves in its process reaches another run. With
// `SimRunOptions::in_process` the run is made in this process instead, as a
// debugger wants it; then a crash is a crash.

#ifndef REPRISE_SIM_EXPLORE_ISOLATED_RUN_H_
#define REPRISE_SIM_EXPLORE_ISOLATED_RUN_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/explore/sim_run.h"
#include "sim/scenario/run_result.h"

namespace reprise {

// As `RunSimulated`, and UNAVAILABLE if there is no process or no memory for
// it. `after`: seeds that are run before it in the same process. CANCELLED if
// somebody ended the process, such as an interrupt of the whole command.
absl::StatusOr<RunResult> RunIsolated(const SimRunOptions& options,
                                      const std::vector<uint64_t>& after = {});

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_ISOLATED_RUN_H_
