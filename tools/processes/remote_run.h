// One worker's part in a run over several machines, each of which runs one
// worker process.
//
// Worker 0 is the coordinator. It gives the others the time (clock_exchange.h).
// At the end it collects their traces through the store (trace_exchange.h),
// merges them (merge.h) and checks the invariants.

#ifndef REPRISE_TOOLS_PROCESSES_REMOTE_RUN_H_
#define REPRISE_TOOLS_PROCESSES_REMOTE_RUN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/driver.h"
#include "sim/scenario/run_result.h"
#include "sim/scenario/scenario.h"
#include "tools/processes/worker_identity.h"

namespace reprise {

struct RemoteRunOptions {
  const Scenario* scenario = nullptr;
  uint64_t seed = 1;
  ScenarioParams params;  // a value for each parameter of the scenario
  WorkerIdentity identity;
  std::vector<std::string> transports;  // see TransportOptions
  std::string bind_address;             // likewise
  // The scenario's cuda:0 and so on, and their driver. None: tensors are on
  // CPUs only. The driver must live as long as the process.
  std::vector<int> gpus;
  GpuDriver* driver = nullptr;
  // The bound for all of it, from the start of this worker. A body that takes
  // longer has failed ("time-limit").
  absl::Duration max_wall_time = absl::Minutes(3);
};

struct RemoteRun {
  // At the coordinator, the result of all workers. At another worker, the
  // result by its own checks only.
  RunResult result;
  int64_t clock_error_ns = 0;  // at the coordinator, the largest of all
  // The body still runs, so the process must end without waiting for it.
  bool hung = false;
};

// Blocks until the run is over. An error means that the run could not be set
// up: the store, a transport or a GPU does not work, or a worker did not come.
absl::StatusOr<RemoteRun> RunRemoteWorker(const RemoteRunOptions& options);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_REMOTE_RUN_H_
