// Measures through the store how far a machine's clock is from the
// coordinator's.
//
// A worker asks and the coordinator answers with its time. The coordinator read
// its clock between the worker's two readings, so the error is at most half of
// the time between them. The best of several rounds counts. Afterwards the two
// clocks may drift apart by at most kDriftPerMillion. These functions block.

#ifndef REPRISE_TOOLS_PROCESSES_CLOCK_EXCHANGE_H_
#define REPRISE_TOOLS_PROCESSES_CLOCK_EXCHANGE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/store/store.h"

namespace reprise {

// The largest change that a kernel lets a time daemon make to the steady clock,
// and the error of a quartz on top of it.
inline constexpr int64_t kDriftPerMillion = 600;

struct ClockOffset {
  // The coordinator's clock minus this machine's (MonotonicNanoseconds).
  int64_t offset_ns = 0;
  int64_t error_ns = 0;  // the bound of the error when it was measured
};

// For the coordinator: answers the workers 1 .. world_size - 1, one after
// another. DEADLINE_EXCEEDED names the worker that did not ask.
absl::Status AnswerClocks(Store& store, const std::string& prefix,
                          int world_size, absl::Time deadline);

// For the other workers: asks the coordinator.
absl::StatusOr<ClockOffset> AskClock(Store& store, const std::string& prefix,
                                     int rank, absl::Time deadline);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_CLOCK_EXCHANGE_H_
