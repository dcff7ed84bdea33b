// The swarm: plans in which each seed draws which families of faults there are
// and how strong they are, so that one kind of fault does not hide another and
// each pair of kinds meets in some seed. Then everything heals: each worker
// that died is back, and nothing is broken any more.

#ifndef REPRISE_TESTS_SCENARIOS_SWARM_H_
#define REPRISE_TESTS_SCENARIOS_SWARM_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "sim/scenario/scenario.h"

namespace reprise::scenarios {

// Draws a plan for `workers` workers in which all faults begin and end within
// `params["storm_ms"]`, from the start of the run. Faults that wait for an
// event that comes late strike later, if at all. `clocks`: some clocks are
// wrong, so that workers cannot agree on a time.
std::vector<std::string> DrawSwarm(Draws random, const ScenarioParams& params,
                                   int workers, bool clocks);

// Whether a call failed because of the fault `no-memory`, at either end.
bool IsShortOfMemory(const absl::Status& status);

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_SCENARIOS_SWARM_H_
