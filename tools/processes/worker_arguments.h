// The command line by which a coordinator starts a worker process.

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
  int world_size = 1;  // clients included
  int incarnation = 0;
  uint64_t seed = 1;
  ScenarioParams params;
  // The names of the transports, the preferred one first.
  std::vector<std::string> transports;
  std::vector<int> gpus;  // the scenario's cuda:0 and so on; none: CPUs only
  std::string store_url;
  std::string files;     // the directory for its files
  std::string plant;     // the defect to switch on; empty: none
  int trace_fd = -1;     // the file descriptor for the trace
  int64_t start_ns = 0;  // MonotonicNanoseconds at the start of the run
};

// To words "name=value" and back. INVALID_ARGUMENT says which word is wrong.
std::vector<std::string> FormatWorkerArguments(const WorkerArguments& worker);
absl::StatusOr<WorkerArguments> ParseWorkerArguments(
    const std::vector<std::string>& words);

// The clock of a run in processes. All processes of a machine share it, and a
// change of the date does not move it.
int64_t MonotonicNanoseconds();

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_WORKER_ARGUMENTS_H_
