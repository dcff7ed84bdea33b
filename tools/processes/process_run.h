// One run of a scenario over real transports on this machine, with a process
// for each worker.

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
  ScenarioParams params;  // a value for each parameter of the scenario
  // "uv", "shm" or both, the preferred one first.
  std::vector<std::string> transports;
  // The GPUs that the workers are given, as `GpusOfRank` says (gpu_choice.h);
  // for a scenario with `gpus_per_host`, which needs at least one.
  std::vector<int> gpus;
  std::string plant;  // the defect to switch on; empty: none
  // The plan, a fault line each, of kinds that exist between processes
  // (fault_injection/fault_kind.h); unset: the scenario's `process_faults`.
  std::optional<std::vector<std::string>> faults;
  // A run that takes longer is killed and has failed ("time-limit").
  absl::Duration max_wall_time = absl::Minutes(3);
  // Whether the workers' files of a run that fails are kept.
  bool keep_scratch = false;
};

// Starts this program once for each worker (see worker_process.h), makes the
// faults happen, and checks the invariants on the merged trace. It blocks until
// the run is over and leaves no process behind, and no file but those that are
// to be kept. An error means that the run could not be set up; a violated rule
// is in the result, and its detail names the workers that were lost.
absl::StatusOr<RunResult> RunInProcesses(const ProcessRunOptions& options);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_PROCESS_RUN_H_
