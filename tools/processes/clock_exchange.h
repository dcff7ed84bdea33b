// How far a machine's clock is from the coordinator's, found through the store.
//
// A worker asks, the coordinator answers with its time, the worker sees the
// answer: the coordinator read its clock between the worker's two readings, so
// half of the time between these bounds the error. The best of several rounds
// counts. Afterwards two clocks may drift apart by kDriftPerMillion.

#ifndef REPRISE_TOOLS_PROCESSES_CLOCK_EXCHANGE_H_
#define REPRISE_TOOLS_PROCESSES_CLOCK_EXCHANGE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/store/store.h"

namespace reprise {

// What a kernel lets a time daemon do to the steady clock, and quartz beside.
inline constexpr int64_t kDriftPerMillion = 600;

struct ClockOffset {
  // The coordinator's clock minus this machine's (MonotonicNanoseconds).
  int64_t offset_ns = 0;
  int64_t error_ns = 0;  // at the exchange; at most
};

// The coordinator answers workers 1 .. world_size - 1, one after another.
// DEADLINE_EXCEEDED names the worker that did not ask.
absl::Status AnswerClocks(Store& store, const std::string& prefix,
                          int world_size, absl::Time deadline);

// The others ask.
absl::StatusOr<ClockOffset> AskClock(Store& store, const std::string& prefix,
                                     int rank, absl::Time deadline);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_CLOCK_EXCHANGE_H_
