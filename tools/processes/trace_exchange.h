// Brings the workers' traces to the coordinator through the store, in pieces
// under the keys <prefix>/<rank>/0, 1, ..., and <prefix>/<rank>/end at last.
// These functions block until the deadline at most.

#ifndef REPRISE_TOOLS_PROCESSES_TRACE_EXCHANGE_H_
#define REPRISE_TOOLS_PROCESSES_TRACE_EXCHANGE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/store/store.h"
#include "sim/trace/trace.h"
#include "tools/processes/merge.h"

namespace reprise {

// The times of `trace` must be on the coordinator's clock.
absl::Status SendTrace(Store& store, const std::string& prefix, int rank,
                       const WorkerTrace& trace, absl::Time deadline);

// Waits for the trace of a worker, reads it and removes it from the store.
// DEADLINE_EXCEEDED if it did not come, INVALID_ARGUMENT if what came is not a
// trace of this worker.
absl::StatusOr<WorkerTrace> ReceiveTrace(Store& store,
                                         const std::string& prefix, int rank,
                                         absl::Time deadline);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_TRACE_EXCHANGE_H_
