// What a run in processes came to, by the traces of its workers.

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
  absl::Duration settle_time;
  int64_t last_effect_ns = 0;  // when the last fault was over
  // What ended the run early, if anything, and when. Of "time-limit", the
  // detail is completed.
  std::string rule;
  std::string detail;
  int64_t failed_ns = INT64_MAX;
};

// Fills in what follows from `events`, which are of all workers, each one's in
// their order: they are merged by time and checked. What was violated first is
// the result's rule, whoever noticed.
void Judge(const ProcessRunEnd& end, std::vector<Event> events,
           RunResult& result);

// The same of events that are in their order already.
void JudgeInOrder(const ProcessRunEnd& end, std::vector<Event> events,
                  RunResult& result);

// By the workers' own checks only, for a part of a run.
void JudgeAlone(std::vector<Event> events, RunResult& result);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_JUDGE_H_
