// One worker's part of a run over several machines, each with one process.
//
// Worker 0 coordinates: it gives the others the time (clock_exchange.h), and at
// the end collects their traces through the store (trace_exchange.h), merges
// them (merge.h) and checks the invariants.

#ifndef REPRISE_TOOLS_PROCESSES_NODE_RUN_H_
#define REPRISE_TOOLS_PROCESSES_NODE_RUN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "sim/scenario/run_result.h"
#include "sim/scenario/scenario.h"
#include "tools/processes/node_identity.h"

namespace reprise {

struct NodeRunOptions {
  const Scenario* scenario = nullptr;
  uint64_t seed = 1;
  ScenarioParams params;  // all of them
  NodeIdentity identity;
  std::string transport;     // the name of the only one
  std::string bind_address;  // empty: found (agent/transport/transports.h)
  // From the start of this worker; for all of it. A body that takes longer has
  // failed ("time-limit").
  absl::Duration max_wall_time = absl::Minutes(3);
};

struct NodeRun {
  // The coordinator's: of all workers. Any other's: by its own checks alone.
  RunResult result;
  int64_t clock_error_ns = 0;  // the largest
  // The body still runs: the process must end without unwinding it.
  bool hung = false;
};

// Errors are of the set-up: the store, the transport, workers that do not come.
absl::StatusOr<NodeRun> RunNode(const NodeRunOptions& options);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_NODE_RUN_H_
