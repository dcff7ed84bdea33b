// Plans of faults for groups of three workers, drawn family by family: a run
// has one to three faults, and each run knows only some of the families, so
// that no kind of trouble always hides another.

#ifndef REPRISE_TESTS_SCENARIOS_FAULTS_H_
#define REPRISE_TESTS_SCENARIOS_FAULTS_H_

#include <string>
#include <vector>

#include "sim/scenario/scenario.h"

namespace reprise::scenarios {

// All families; everything heals within 3 seconds, but for who never returns.
std::vector<std::string> DrawFaults(RandomStream& random,
                                    const ScenarioParams& params);

// Those that processes can have: a crash with a restart, a pause.
std::vector<std::string> DrawProcessFaults(RandomStream& random,
                                           const ScenarioParams& params);

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_SCENARIOS_FAULTS_H_
