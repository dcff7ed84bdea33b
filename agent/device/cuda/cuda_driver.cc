#include "agent/device/cuda/cuda_driver.h"

#include <utility>

#include "absl/status/status.h"

#ifdef REPRISE_WITH_CUDA
#include "agent/device/cuda/cuda_gpus.h"
#endif

namespace reprise {

#ifdef REPRISE_WITH_CUDA

absl::StatusOr<std::unique_ptr<GpuDriver>> LoadCudaDriver(
    const std::string& library) {
  auto gpus = cuda::Gpus::Load(library);
  if (!gpus.ok()) return gpus.status();
  return *std::move(gpus);
}

#else

absl::StatusOr<std::unique_ptr<GpuDriver>> LoadCudaDriver(
    const std::string& /*library*/) {
  return absl::UnimplementedError(
      "built without CUDA: cuda.h was found neither in $CUDA_HOME/include nor "
      "in /usr/local/cuda/include; install the CUDA toolkit or run "
      "`tools/setup.sh --with-cuda`, and build again");
}

#endif

absl::StatusOr<GpuDriver*> FindCudaDriver() {
  // Never destroyed: storages and the driver's own threads use it to the end.
  static const auto* const found =
      new absl::StatusOr<std::unique_ptr<GpuDriver>>(
          LoadCudaDriver("libcuda.so.1"));
  if (!found->ok()) return found->status();
  return found->value().get();
}

}  // namespace reprise
