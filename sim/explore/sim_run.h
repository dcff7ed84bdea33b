// One simulated run of a scenario.

#ifndef REPRISE_SIM_EXPLORE_SIM_RUN_H_
#define REPRISE_SIM_EXPLORE_SIM_RUN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/network/network.h"
#include "sim/scenario/run_result.h"
#include "sim/scenario/scenario.h"
#include "sim/world/scheduler.h"

namespace reprise {

struct SimRunOptions {
  const Scenario* scenario = nullptr;
  uint64_t seed = 1;
  ScenarioParams params;  // all of them
  ScheduleOptions schedule;
  NetworkOptions network;
  // The plan of faults; unset: what the scenario draws for the seed.
  std::optional<std::vector<std::string>> faults;
  // Decisions to follow; null: draw them.
  const std::vector<Decision>* recording = nullptr;
  bool keep = false;     // events and decisions
  uint64_t scatter = 0;  // shuffles heap addresses; 0: does not
};

// A function of its options but for `wall_seconds`. Thread-safe: several runs
// may be under way, each on its own OS thread. INVALID_ARGUMENT for a fault
// that cannot be read.
absl::StatusOr<RunResult> RunSimulated(const SimRunOptions& options);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_SIM_RUN_H_
