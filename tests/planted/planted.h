// The list of planted defects (see agent/planted.h), and the switch for each.
// It is linked only into programs whose agent was built with
// REPRISE_WITH_PLANTED_DEFECTS.

#ifndef REPRISE_TESTS_PLANTED_PLANTED_H_
#define REPRISE_TESTS_PLANTED_PLANTED_H_

#include <string>
#include <string_view>
#include <vector>

namespace reprise {

struct PlantedDefect {
  std::string name;
  std::string what;      // the bug that it copies
  std::string scenario;  // the scenario that finds it
  std::string command;   // how it finds it: "explore" or "verify"
};

const std::vector<PlantedDefect>& PlantedDefects();

// Switches the agent's rare ways on (agent/rare_way.h), for the rest of the
// process.
void TakeRareWays();

// Has the agent's coverage probes recorded (agent/probe.h), for the rest of the
// process. That changes the hashes of runs.
void TellAgentProbes();

// Switches a defect on for the rest of the process. Returns false for an
// unknown name. To be called before any agent exists.
bool Plant(std::string_view name);

}  // namespace reprise

#endif  // REPRISE_TESTS_PLANTED_PLANTED_H_
