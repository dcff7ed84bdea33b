// One trace out of those of several machines, whose clocks differ.
//
// Each worker's times have been moved to the coordinator's clock, but for an
// error that is bounded. So they alone do not say which of two events of
// different workers came first. The merge keeps the order of each worker, and
// puts a cause before its effect whatever their times say:
//
//  - the start of a call before the request that its callee saw;
//  - the reply that the callee gave before the completion of the call with it.
//
// A departure from a barrier comes after the others' entries into it that may,
// within the error, have come before it; an entry that is later by more than
// the error stays behind, and is a violation. What is left goes by time.

#ifndef REPRISE_TOOLS_PROCESSES_MERGE_H_
#define REPRISE_TOOLS_PROCESSES_MERGE_H_

#include <cstdint>
#include <vector>

#include "sim/trace/trace.h"

namespace reprise {

struct WorkerTrace {
  std::vector<Event> events;  // in the worker's order
  int64_t error_ns = 0;       // their times are wrong by at most so much
};

// `traces[i]` is of worker i. Never fails: a trace that no execution can have
// given is merged by time.
std::vector<Event> MergeTraces(std::vector<WorkerTrace> traces);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_MERGE_H_
