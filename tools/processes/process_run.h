// One run of a scenario over real transports: a process for each worker, on
// this machine.

#ifndef REPRISE_TOOLS_PROCESSES_PROCESS_RUN_H_
#define REPRISE_TOOLS_PROCESSES_PROCESS_RUN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "sim/scenario/run_result.h"
#include "sim/scenario/scenario.h"

namespace reprise {

struct ProcessRunOptions {
  const Scenario* scenario = nullptr;
  uint64_t seed = 1;
  ScenarioParams params;  // all of them
  std::string transport;  // "uv" or "shm"
  std::string plant;      // the defect to switch on; empty: none
  // The plan of faults: crashes (kill -9) and pauses (stop and continue)
  // only; unset: the scenario's `process_faults`.
  std::optional<std::vector<std::string>> faults;
  // A run that takes longer is killed, and has failed ("time-limit").
  absl::Duration max_wall_time = absl::Minutes(3);
};

// Starts this very program once for each worker (see worker_process.h), lets
// the faults happen, and checks the invariants on the merged trace. Leaves no
// process and no file behind. Errors are of the set-up; a violated rule is in
// the result.
absl::StatusOr<RunResult> RunInProcesses(const ProcessRunOptions& options);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_PROCESS_RUN_H_
