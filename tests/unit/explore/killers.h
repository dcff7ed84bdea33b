// Scenarios whose body ends the process that runs it, or hangs.

#ifndef REPRISE_TESTS_UNIT_EXPLORE_KILLERS_H_
#define REPRISE_TESTS_UNIT_EXPLORE_KILLERS_H_

#include <ostream>
#include <string>
#include <vector>

#include "sim/scenario/scenario.h"

namespace reprise {

struct Killer {
  std::string name;
  std::string rule;    // by which the run must fail
  std::string detail;  // a part of the detail that it must have
  std::string stack;   // a part of a line of the stacks; empty: no stack
  // What w1 does after a call to w0.
  void (*kill)(Worker& worker, Agent& agent);
};

// Printed in the name of a test.
inline void PrintTo(const Killer& killer, std::ostream* out) {
  *out << killer.name;
}

const std::vector<Killer>& Killers();

// w1 calls w0, and then does what the killer says.
Scenario ScenarioOf(const Killer& killer);

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_EXPLORE_KILLERS_H_
