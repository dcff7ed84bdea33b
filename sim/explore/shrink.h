// Makes a failing run smaller: fewer decisions and faults, the same violated
// rule.

#ifndef REPRISE_SIM_EXPLORE_SHRINK_H_
#define REPRISE_SIM_EXPLORE_SHRINK_H_

#include "sim/explore/sim_run.h"
#include "sim/scenario/run_result.h"

namespace reprise {

// `options` are those of a run that failed with `failed`, which has its events
// and decisions kept. Returns the smallest run found, with events and decisions
// kept, that violates the same rule when its decisions are replayed; within a
// bounded number of runs and about `max_seconds`. Returns `failed` itself if
// nothing smaller was found.
RunResult Shrink(const SimRunOptions& options, RunResult failed,
                 double max_seconds);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_SHRINK_H_
