// What runs in a device's context, and how results become statuses.

#ifndef REPRISE_AGENT_DEVICE_CUDA_IN_CONTEXT_H_
#define REPRISE_AGENT_DEVICE_CUDA_IN_CONTEXT_H_

#include "absl/status/status.h"
#include "agent/device/cuda/cuda_gpus.h"

namespace reprise::cuda {

// Makes the device's context current on this thread while it lives, unless
// `status` says why not.
class Gpus::InContext {
 public:
  InContext(Gpus& gpus, int device) : library_(gpus.library_) {
    const absl::StatusOr<CUcontext> context = gpus.ContextOf(device);
    if (context.ok()) {
      status_ = gpus.Check(device, "cuCtxPushCurrent",
                           library_.cuCtxPushCurrent(*context));
    } else {
      status_ = context.status();
    }
  }
  InContext(const InContext&) = delete;
  InContext& operator=(const InContext&) = delete;
  ~InContext() {
    CUcontext popped;
    if (status_.ok()) library_.cuCtxPopCurrent(&popped);
  }

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }

 private:
  const Library& library_;
  absl::Status status_;
};

inline CUstream Native(GpuStream stream) {
  return reinterpret_cast<CUstream>(stream.handle);
}
inline CUevent Native(GpuEvent event) {
  return reinterpret_cast<CUevent>(event.handle);
}
inline CUdeviceptr Address(const void* memory) {
  return reinterpret_cast<CUdeviceptr>(memory);
}

}  // namespace reprise::cuda

#endif  // REPRISE_AGENT_DEVICE_CUDA_IN_CONTEXT_H_
