// What a coordinator tells a worker process on its command line.

#ifndef REPRISE_TOOLS_PROCESSES_WORKER_ARGUMENTS_H_
#define REPRISE_TOOLS_PROCESSES_WORKER_ARGUMENTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/scenario/scenario.h"

namespace reprise {

struct WorkerArguments {
  std::string scenario;
  int rank = 0;
  int world_size = 1;
  int incarnation = 0;
  uint64_t seed = 1;
  ScenarioParams params;
  std::string transport;  // the name of the only one
  std::string store_url;
  std::string plant;     // the defect to switch on; empty: none
  int trace_fd = -1;     // where to write the trace
  int64_t start_ns = 0;  // when the run began, of MonotonicNanoseconds
};

// As words "name=value", and back. INVALID_ARGUMENT names the word.
std::vector<std::string> FormatWorkerArguments(const WorkerArguments& worker);
absl::StatusOr<WorkerArguments> ParseWorkerArguments(
    const std::vector<std::string>& words);

// The clock of a run in processes: one for the whole machine, and no settings
// of the date move it.
int64_t MonotonicNanoseconds();

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_WORKER_ARGUMENTS_H_
