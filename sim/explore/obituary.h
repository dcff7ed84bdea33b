// Makes the result of a run from what is left of it when its process has died.
//
// The rules are:
//
//  crash           a signal, a failed CHECK, std::terminate
//  stack-overflow  a fiber touched the memory below its stack
//  exception       an exception that nobody caught
//  exit            the process was ended by `exit` or the like
//  hang            the run went on for too long in real time

#ifndef REPRISE_SIM_EXPLORE_OBITUARY_H_
#define REPRISE_SIM_EXPLORE_OBITUARY_H_

#include <string>
#include <string_view>

#include "sim/explore/death.h"
#include "sim/scenario/run_result.h"

namespace reprise {

// Whether it is the rule of a run whose process died.
bool IsDeathRule(std::string_view rule);

struct Death {
  const DeathRecord* record = nullptr;
  int wait_status = 0;  // as waitpid gives it
  bool was_hanging = false;
  std::string hang;    // "used 60 s of CPU time"
  std::string output;  // what the run wrote on standard error
};

// Fills in the rule, the detail, the stacks and the counts. Names of functions
// are looked up in this process, so it must be a parent of the one that died.
void DescribeDeath(const Death& death, RunResult& result);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_OBITUARY_H_
