// Draws plans for groups of three workers. A run has one to three faults, of
// only some of the families of faults, so that one kind of fault does not
// always hide another.

#ifndef REPRISE_TESTS_SCENARIOS_FAULTS_H_
#define REPRISE_TESTS_SCENARIOS_FAULTS_H_

#include <string>
#include <string_view>
#include <vector>

#include "sim/scenario/scenario.h"

namespace reprise::scenarios {

// Draws from all families. Everything heals within 3 seconds, except for a
// worker that crashes for good.
std::vector<std::string> DrawFaults(Draws random, const ScenarioParams& params);

// How a worker dies: "crash ", "kill " or "power ".
std::string_view DrawDeath(Draws& random, DrawName name);

// Draws faults that exist between processes: a crash with a restart, or a
// pause.
std::vector<std::string> DrawProcessFaults(Draws random,
                                           const ScenarioParams& params);

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_SCENARIOS_FAULTS_H_
