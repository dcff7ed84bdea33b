// Judges a run in processes by the traces of its workers.

#ifndef REPRISE_TOOLS_PROCESSES_JUDGE_H_
#define REPRISE_TOOLS_PROCESSES_JUDGE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "sim/scenario/run_result.h"
#include "sim/trace/trace.h"

namespace reprise {

struct ProcessRunEnd {
  int num_workers = 0;
  int num_clients = 0;  // of them, that are no members
  absl::Duration settle_time;
  int64_t last_effect_ns = 0;  // when the last effect of a fault ended
  // The rule whose violation ended the run early, and when; empty for none. The
  // judge completes the detail of "time-limit".
  std::string rule;
  std::string detail;
  int64_t failed_ns = INT64_MAX;
};

// Merges `events` by their times, checks them, and fills in the result. They
// are of all workers, and those of each worker are in their order. The rule of
// the result is the one that was violated first, no matter what noticed it.
void Judge(const ProcessRunEnd& end, std::vector<Event> events,
           RunResult& result);

// The same for events that are already in their order.
void JudgeInOrder(const ProcessRunEnd& end, std::vector<Event> events,
                  RunResult& result);

// Fills in the result by the workers' own checks only. For a part of a run.
void JudgeAlone(std::vector<Event> events, RunResult& result);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_JUDGE_H_
