// CUDA's GPUs behind the driver seam (agent/device/driver.h).
//
// Only the driver's library (libcuda.so.1) is used, and it is loaded at run
// time, so one program runs with and without a GPU. CUDA's header is needed to
// compile it, with REPRISE_WITH_CUDA defined; without, the functions below say
// so.
//
// It works in the primary context of each device, which CUDA's runtime,
// PyTorch, JAX and CuPy use too, so their memory, streams and events are ours.
// A context is retained when its device is first used, and is kept. The calling
// thread's current context stays what it was.
//
// A device that reports a fatal error (ECC, an illegal address, a failed
// launch, ...) is lost: every later function says UNAVAILABLE with that error.
// The other devices go on.

#ifndef REPRISE_AGENT_DEVICE_CUDA_CUDA_DRIVER_H_
#define REPRISE_AGENT_DEVICE_CUDA_CUDA_DRIVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "agent/device/driver.h"

namespace reprise {

// The GPUs of this process, as CUDA_VISIBLE_DEVICES orders them. The driver is
// never destroyed. UNIMPLEMENTED with the reason when there are none: built
// without CUDA, no library, an older one than that of CUDA 11.4, or no device.
// The first call takes up to seconds; every call returns what the first found.
absl::StatusOr<GpuDriver*> FindCudaDriver();

// The same over the library in the file `library`; for tests.
absl::StatusOr<std::unique_ptr<GpuDriver>> LoadCudaDriver(
    const std::string& library);

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_CUDA_CUDA_DRIVER_H_
