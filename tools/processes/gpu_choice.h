// Which GPUs of this machine the workers of a scenario use, by the flag
// `--device` and by the environment that torchrun and Slurm set.
//
// A scenario says by its `gpus_per_host` how many GPUs each of its workers is
// to see: as cuda:0, cuda:1 and so on. Behind these numbers are the GPUs that
// the worker was given. If it was given fewer, they take turns, so one GPU is
// enough for every scenario.

#ifndef REPRISE_TOOLS_PROCESSES_GPU_CHOICE_H_
#define REPRISE_TOOLS_PROCESSES_GPU_CHOICE_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/device/driver.h"
#include "sim/scenario/scenario.h"
#include "tools/processes/environ.h"

namespace reprise {

// Returns what `FindCudaDriver` returns, or another driver in tests.
using GpuFinder = std::function<absl::StatusOr<GpuDriver*>()>;

struct GpuChoice {
  // The GPUs to hand out, in this order. Empty: all tensors are on CPUs.
  std::vector<int> gpus;
  GpuDriver* driver = nullptr;  // null when `gpus` is empty
  // What was chosen and why, as a line for people.
  std::string description;
};

// "3", "cuda:3" and "cuda:0,cuda:2" are GPUs; "cpu" is none.
absl::StatusOr<std::vector<int>> ParseDevices(std::string_view text);

// "cuda:0, cuda:2"; "cpu" for none.
std::string NamesOf(const std::vector<int>& gpus);

// The GPUs of worker `rank` when `gpus` are handed out to the workers of one
// machine: `count`, beginning with the one at `rank` and going on with the
// first after the last. None if `gpus` is empty.
std::vector<int> GpusOfRank(const std::vector<int>& gpus, int rank, int count);

// For all workers of a run on this machine: the GPUs of `device` (the value of
// the flag; empty if it was not given), or else all. INVALID_ARGUMENT for what
// `ParseDevices` does not read and for a GPU that is not there.
// FAILED_PRECONDITION, with what to do, if the scenario needs GPUs and gets
// none. GPUs are looked for only if the scenario needs them or the flag names
// some.
absl::StatusOr<GpuChoice> ChooseGpusOfRun(const Scenario& scenario,
                                          const std::string& device,
                                          const GpuFinder& find);

// The same for one worker, which shares its machine with others that were
// started on their own: the GPUs of `device`, or else the one with the number
// that LOCAL_RANK (torchrun) or SLURM_LOCALID (Slurm) holds, or else the first.
absl::StatusOr<GpuChoice> ChooseGpusOfWorker(const Scenario& scenario,
                                             const std::string& device,
                                             const Environ& environ,
                                             const GpuFinder& find);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_GPU_CHOICE_H_
