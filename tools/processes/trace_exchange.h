// Workers' traces, brought to the coordinator through the store: in pieces,
// under <prefix>/<rank>/0, 1, ..., and then <prefix>/<rank>/end.

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

// `trace` has its times on the coordinator's clock already.
absl::Status SendTrace(Store& store, const std::string& prefix, int rank,
                       const WorkerTrace& trace, absl::Time deadline);

// Waits for it, reads it and takes it out of the store. DEADLINE_EXCEEDED when
// it did not come; INVALID_ARGUMENT for what is no trace of this worker.
absl::StatusOr<WorkerTrace> ReceiveTrace(Store& store,
                                         const std::string& prefix, int rank,
                                         absl::Time deadline);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_TRACE_EXCHANGE_H_
