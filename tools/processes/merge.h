// Merges the traces of several machines, whose clocks differ, into one.
//
// The times of each worker are on the coordinator's clock, with a bounded
// error. Times alone therefore do not say which of two events of different
// workers came first. The merge keeps the order of each worker, and puts a
// cause before its effect whatever their times say:
//
//  - the start of a call comes before the request that its callee saw;
//  - the callee's reply comes before the completion of the call with it.
//
// A departure from a barrier comes after those entries of others that, within
// the error, may have come before it. An entry that is later by more than the
// error stays after it, and violates the rule `barrier`. All else is ordered by
// time.

#ifndef REPRISE_TOOLS_PROCESSES_MERGE_H_
#define REPRISE_TOOLS_PROCESSES_MERGE_H_

#include <cstdint>
#include <vector>

#include "sim/trace/trace.h"

namespace reprise {

struct WorkerTrace {
  std::vector<Event> events;  // in the worker's order
  int64_t error_ns = 0;       // the bound of the error of their times
};

// `traces[i]` is the trace of worker i. It never fails: traces that no
// execution can have given are merged by time.
std::vector<Event> MergeTraces(std::vector<WorkerTrace> traces);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_MERGE_H_
