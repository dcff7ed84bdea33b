// The swarm: plans in which each seed draws which families of faults there are
// and how strong they are, so that one kind of fault does not always hide
// another, and any two may meet. Then all heals but the clocks: each worker
// that died is back, and nothing is broken any more.

#ifndef REPRISE_TESTS_SCENARIOS_SWARM_H_
#define REPRISE_TESTS_SCENARIOS_SWARM_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "sim/scenario/scenario.h"

namespace reprise::scenarios {

// Draws a plan for `workers` workers in which faults begin in the first half of
// `params["storm_ms"]`, from the start of the run, and last half of it at most.
// Those that wait for an event strike later, if it comes late. `clocks`: some
// clocks are wrong, for good, so that workers cannot agree on a time.
std::vector<std::string> DrawSwarm(Draws random, const ScenarioParams& params,
                                   int workers, bool clocks);

// Whether a call failed because of the fault `no-memory`, at either end.
bool IsShortOfMemory(const absl::Status& status);

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_SCENARIOS_SWARM_H_
