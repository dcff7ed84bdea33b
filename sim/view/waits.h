// Who waits for whom when a run has failed: the calls that are open, the
// barriers that are not full, and where the time went.

#ifndef REPRISE_SIM_VIEW_WAITS_H_
#define REPRISE_SIM_VIEW_WAITS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sim/scenario/run_result.h"
#include "sim/view/words.h"

namespace reprise {

// A call that was started and not completed.
struct OpenCall {
  CallKey call;
  size_t started = 0;  // the index of each event in `RunResult::events`
  std::optional<size_t> got = std::nullopt;
  std::optional<size_t> answered = std::nullopt;
};

// Those of the first `end` events, oldest first. A crash of the caller ends its
// calls.
std::vector<OpenCall> OpenCalls(const RunResult& result, size_t end);

// A wait of one worker: a call, or its time in a barrier.
struct Wait {
  size_t begin = 0;  // indices of events
  size_t end = 0;
  int64_t ns = 0;
};

// The waits of worker `node` that ended among the first `end` events and last
// beyond `since_ns`, longest first.
std::vector<Wait> EndedWaits(const RunResult& result, int32_t node,
                             int64_t since_ns, size_t end);

// Sentences for all of it, at most `max_lines`. Those about `nodes` come first.
std::vector<std::string> TellWaits(const RunResult& result,
                                   const std::vector<int32_t>& nodes,
                                   size_t end, size_t max_lines);

}  // namespace reprise

#endif  // REPRISE_SIM_VIEW_WAITS_H_
