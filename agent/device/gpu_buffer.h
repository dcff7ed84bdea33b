// TensorPipe's view of GPU memory: what a channel for GPUs is given to send
// from or to receive into.
//
// `tensorpipe::Buffer` gives it back by this exact type. The bytes belong to
// whoever made the buffer, until the channel has called back. The channel works
// on `stream`: a send reads after the work that was put on it before, and what
// was received is there for work that is put on it after the callback. `ptr` is
// memory of `stream.device`; null only for 0 bytes.

#ifndef REPRISE_AGENT_DEVICE_GPU_BUFFER_H_
#define REPRISE_AGENT_DEVICE_GPU_BUFFER_H_

#include <type_traits>

#include "agent/device/driver.h"
#include "tensorpipe/common/device.h"

namespace reprise {

struct GpuBuffer {
  void* ptr = nullptr;
  GpuStream stream;

  tensorpipe::Device getDevice() const {
    return tensorpipe::Device(tensorpipe::kCudaDeviceType, stream.device);
  }
};

// What `tensorpipe::Buffer` asks for.
static_assert(sizeof(GpuBuffer) <= 24 && alignof(GpuBuffer) <= 8 &&
              std::is_trivially_copyable_v<GpuBuffer>);

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_GPU_BUFFER_H_
