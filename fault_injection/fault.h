// The vocabulary of faults: one fault is one line of text.
//
//   crash w1 when w1 send.payload#3 restart 200ms
//   crash w1 after 2s
//   pause w2 when w0 call.started#10 for 300ms
//   cut w0-w1 after 1s reset            all their connections, now
//   cut w0-w1 when w1 request#5 eof
//   cut w0>w1 byte 4096 reset           the write that crosses that byte
//   refuse w1 after 1s for 2s           connects to w1
//   silence w0-w1 after 1s for 2s       ("for ever")
//   knock w1 after 500ms                a connect that goes away at once
//   store-outage all after 1s for 2s    (or one worker: w1)
//   store-delay 50ms after 1s for 2s
//
// `when W EVENT#N` is the N-th event of that kind at that worker, counted from
// 1 over its incarnations; events have the names of sim/trace.h.

#ifndef REPRISE_FAULT_INJECTION_FAULT_H_
#define REPRISE_FAULT_INJECTION_FAULT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/trace/trace.h"

namespace reprise {

enum class FaultKind : uint8_t {
  kCrash,
  kPause,
  kCut,
  kRefuse,
  kSilence,
  kKnock,
  kStoreOutage,
  kStoreDelay,
};

// "crash", "store-outage", ...: what a scenario's `fault_kinds` lists.
std::string_view ToString(FaultKind kind);

inline constexpr int32_t kAllWorkers = -1;
inline constexpr int64_t kForEver = INT64_MAX;

struct Fault {
  FaultKind kind = FaultKind::kCrash;
  int32_t worker = 0;
  int32_t other = 0;  // the far end, of kCut and kSilence

  // When: at an event, or at a time. A cut at a byte has neither.
  bool at_event = false;
  int32_t event_worker = 0;
  EventKind event = EventKind::kCount;
  int64_t event_number = 0;  // from 1
  int64_t after_ns = 0;

  int64_t byte = -1;           // of kCut; -1: all connections now
  bool end_of_stream = false;  // of kCut; else a reset
  int64_t for_ns = 0;          // of those that last; kForEver
  int64_t restart_ns = -1;     // of kCrash: after so long; -1: never
  int64_t delay_ns = 0;        // of kStoreDelay

  std::string text;  // the line
};

// INVALID_ARGUMENT names the word that is wrong. `num_workers` bounds ranks.
absl::StatusOr<Fault> ParseFault(std::string_view line, int num_workers);
absl::StatusOr<std::vector<Fault>> ParseFaults(
    const std::vector<std::string>& lines, int num_workers);

// "1500us", "200ms", "2s"; as in fault lines.
std::string FormatNanoseconds(int64_t ns);

}  // namespace reprise

#endif  // REPRISE_FAULT_INJECTION_FAULT_H_
