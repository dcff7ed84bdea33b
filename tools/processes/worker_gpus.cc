#include "tools/processes/worker_gpus.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/runtime/runtime.h"

namespace reprise {
namespace {

// A worker's first use of a GPU makes its context. It is made here, before any
// memory of the host is pinned: for that the driver takes a GPU that is in use
// and, when none is, the first of all, which other workers may need for
// themselves.
absl::Status TryGpu(GpuDriver& driver, int gpu) {
  if (gpu < 0 || gpu >= driver.device_count()) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no cuda:", gpu, " here; this process sees ",
                     driver.device_count(), " GPUs, counted from 0"));
  }
  const absl::StatusOr<GpuStream> stream = driver.CreateStream(gpu);
  if (!stream.ok()) {
    return absl::Status(
        stream.status().code(),
        absl::StrCat("cuda:", gpu,
                     " cannot be used: ", stream.status().message(),
                     "; 'reprise doctor' says what works here"));
  }
  driver.DestroyStream(*stream);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerGpus>> WorkerGpus::Open(
    GpuDriver& driver, const std::vector<int>& gpus) {
  for (const int gpu : gpus) {
    if (absl::Status status = TryGpu(driver, gpu); !status.ok()) return status;
  }
  return std::unique_ptr<WorkerGpus>(new WorkerGpus(driver, gpus));
}

WorkerGpus::WorkerGpus(GpuDriver& driver, std::vector<int> gpus)
    : selected_(driver, std::move(gpus)), devices_(RealRuntime(), &selected_) {}

}  // namespace reprise
