// Fault lines: one fault is one line of text.
//
//   WORD [TARGET] [DELAY] WHEN [for DURATION] [ENDING] [restart DURATION]
//
//   crash w1 when w1 send.payload#3 restart 200ms
//   hold w0-w1 after 1s for 2s
//   partition w0,w1>w2 after 1s for ever
//   cut w0>w1 byte 4096 reset
//
// Which parts a line has depends on its kind: see fault_kind.h for the table
// and docs/faults.md for every form. `after 1s` is a time of the run.
// `when W EVENT#N` is the N-th event of that kind at worker W, counted from 1
// over all its incarnations; events have the names of sim/trace/trace.h.
//
// Parsing has no state and is safe on any thread.

#ifndef REPRISE_FAULT_INJECTION_FAULT_H_
#define REPRISE_FAULT_INJECTION_FAULT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "fault_injection/fault_kind.h"
#include "sim/trace/trace.h"

namespace reprise {

inline constexpr int32_t kAllWorkers = -1;
inline constexpr int64_t kForEver = INT64_MAX;

struct Fault {
  FaultKind kind = FaultKind::kCrash;
  int32_t worker = 0;
  int32_t other = 0;  // the far end of a link
  // Of kinds between groups: the ends, of which `worker` and `other` are the
  // first.
  std::vector<int32_t> group;
  std::vector<int32_t> other_group;
  // From `group` to `other_group` only; of a cut at a byte, always.
  bool is_one_way = false;

  // It begins at an event or at a time. A cut at a byte has neither.
  bool at_event = false;
  int32_t event_worker = 0;
  EventKind event = EventKind::kCount;
  int64_t event_number = 0;  // from 1
  int64_t after_ns = 0;

  int64_t byte = -1;  // of kCut; -1: all connections, now
  // Whether its last word is the second of its kind's endings: "eof", not
  // "reset".
  bool is_second_ending = false;
  int64_t for_ns = 0;       // of kinds that last; kForEver: never ends
  int64_t restart_ns = -1;  // of a worker that dies: after so long; -1: never
  int64_t delay_ns = 0;     // of kinds that have a delay

  std::string text;  // the line, as it was given
};

// Parses one line, whose workers must be w0 to w(num_workers - 1). The error is
// INVALID_ARGUMENT and says which word is wrong and what should be there.
absl::StatusOr<Fault> ParseFault(std::string_view line, int num_workers);
// The same for a plan; the error is that of the first line that has one.
absl::StatusOr<std::vector<Fault>> ParseFaults(
    const std::vector<std::string>& lines, int num_workers);

// "1500us", "200ms", "2s": a duration as fault lines take it.
std::string FormatNanoseconds(int64_t ns);

}  // namespace reprise

#endif  // REPRISE_FAULT_INJECTION_FAULT_H_
