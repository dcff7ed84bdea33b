// The result of one run of a scenario, simulated or in processes. Plain data:
// it outlives the run and may be copied.

#ifndef REPRISE_SIM_SCENARIO_RUN_RESULT_H_
#define REPRISE_SIM_SCENARIO_RUN_RESULT_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "sim/trace/trace.h"
#include "sim/world/decision.h"

namespace reprise {

struct RunResult {
  // The rule that was violated, and how; empty if everything held.
  std::string rule;
  std::string detail;

  uint64_t hash = 0;
  int64_t num_events = 0;
  int64_t num_decisions = 0;
  int64_t num_points = 0;
  double sim_seconds = 0;
  double wall_seconds = 0;

  std::vector<std::string> faults;    // the plan, a line each
  std::vector<std::string> topology;  // beyond the scenario's own, a line each
  std::map<std::string, int64_t> injections;  // strikes, by the kind's word
  std::vector<std::string> never_struck;      // the rest of the plan
  std::set<std::string> probes;               // the coverage probes reached
  std::vector<std::string>
      waiting;                      // what each thread waits for, at a deadlock
  std::vector<std::string> stacks;  // if its process died: a line a frame
  std::vector<Event> events;        // if they were to be kept
  std::vector<Decision> decisions;  // likewise
  std::string first_mismatch;       // where a replay left the recording
  // The files of a failed run, if they were to be kept and there are any.
  std::string scratch_directory;
  // The labels of all threads, and of the places at which decisions can be made
  // (sim/world/site.h), if the trace was to be kept.
  std::vector<std::string> threads;
  std::vector<std::string> places;

  bool held() const { return rule.empty(); }
};

}  // namespace reprise

#endif  // REPRISE_SIM_SCENARIO_RUN_RESULT_H_
