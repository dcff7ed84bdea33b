// What the rule that a run violated is about.

#ifndef REPRISE_SIM_VIEW_SUBJECT_H_
#define REPRISE_SIM_VIEW_SUBJECT_H_

#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "sim/scenario/run_result.h"
#include "sim/trace/trace.h"
#include "sim/view/words.h"

namespace reprise {

struct Subject {
  size_t end = 0;  // up to here the events count
  // The worker that violated the rule; at a deadlock, all that wait.
  std::vector<int32_t> nodes;
  // Also those that the detail names, and the other ends of the calls.
  std::set<int32_t> peers;
  std::set<CallKey> calls;
  std::set<uint64_t> barriers;
};

// Of a run in which everything held, the subject has an `end` only.
Subject SubjectOf(const RunResult& result);

// Whether events of this kind are of a call, and recorded by its caller.
bool IsOfCall(EventKind kind);
bool IsOfCaller(EventKind kind);
// The call of such an event.
CallKey CallOf(const Event& event);

}  // namespace reprise

#endif  // REPRISE_SIM_VIEW_SUBJECT_H_
