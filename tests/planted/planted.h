// Switches planted defects on (see agent/planted.h). Linked only into programs
// whose agent was built with REPRISE_WITH_PLANTED_DEFECTS.

#ifndef REPRISE_TESTS_PLANTED_PLANTED_H_
#define REPRISE_TESTS_PLANTED_PLANTED_H_

#include <string>
#include <string_view>
#include <vector>

namespace reprise {

struct PlantedDefect {
  std::string name;
  std::string what;      // the bug it copies
  std::string scenario;  // the one that finds it
  std::string command;   // with this: "explore" or "verify"
};

const std::vector<PlantedDefect>& PlantedDefects();

// Returns false for a name that is not among them. Call it before any agent
// exists; it stays for the process.
bool Plant(std::string_view name);

}  // namespace reprise

#endif  // REPRISE_TESTS_PLANTED_PLANTED_H_
