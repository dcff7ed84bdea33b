// Makes a failed run smaller: fewer decisions and faults that violate the same
// rule.

#ifndef REPRISE_SIM_EXPLORE_SHRINK_H_
#define REPRISE_SIM_EXPLORE_SHRINK_H_

#include "sim/explore/sim_run.h"
#include "sim/scenario/run_result.h"

namespace reprise {

// `options` are those of the run that gave `failed`, whose events and decisions
// were kept. Returns the smallest run that was found, with its events and
// decisions, or `failed` itself. Takes at most 400 runs and about `max_seconds`
// of real time.
RunResult Shrink(const SimRunOptions& options, RunResult failed,
                 double max_seconds);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_SHRINK_H_
