// What the contexts of all channels for GPUs have in common.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_GPU_CONTEXT_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_GPU_CONTEXT_H_

#include <exception>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "agent/device/gpu_buffer.h"
#include "agent/transport/cuda/callback_thread.h"
#include "agent/transport/cuda/environment.h"
#include "tensorpipe/channel/context_impl_boilerplate.h"
#include "tensorpipe/common/buffer.h"
#include "tensorpipe/common/deferred_executor.h"

namespace reprise {

using DeviceDescriptors = std::unordered_map<tensorpipe::Device, std::string>;

// The same descriptor for each device.
inline DeviceDescriptors DescribeGpus(const GpuDriver& driver,
                                      const std::string& descriptor) {
  DeviceDescriptors descriptors;
  for (int i = 0; i < driver.device_count(); ++i) {
    descriptors[tensorpipe::Device(tensorpipe::kCudaDeviceType, i)] =
        descriptor;
  }
  return descriptors;
}

// Whether a channel that takes pointers of any device can work here.
inline bool HaveUnifiedAddressing(const GpuDriver& driver) {
  for (int i = 0; i < driver.device_count(); ++i) {
    if (!driver.properties(i).has_unified_addressing) return false;
  }
  return driver.device_count() > 0;
}

// Whether the device of ours with the one UUID and a device of this machine
// with the other can read each other's memory. Where we do not see the other
// one, what ours can do counts for both.
inline bool CanReadEachOther(GpuDriver& driver, const std::string& ours,
                             const std::string& theirs) {
  bool can_read = false;
  for (int i = 0; i < driver.device_count(); ++i) {
    const std::string& uuid = driver.properties(i).uuid;
    if (uuid == ours) can_read = driver.CanReadPeer(i, theirs);
    if (uuid == theirs && !driver.CanReadPeer(i, ours)) return false;
  }
  return can_read;
}

// Nothing if it is no memory of a GPU of `driver`'s.
inline std::optional<GpuBuffer> GpuBufferOf(const GpuDriver& driver,
                                            const tensorpipe::Buffer& buffer) {
  try {
    const auto gpu = buffer.unwrap<GpuBuffer>();
    if (gpu.ptr != nullptr && gpu.stream.device >= 0 &&
        gpu.stream.device < driver.device_count()) {
      return gpu;
    }
  } catch (const std::exception&) {  // a buffer of another type
  }
  return std::nullopt;
}

// Functions that TensorPipe's templates name are called as they say.
// `callbacks` is for any thread, everything else of a context for its loop.
template <typename TContext, typename TChannel>
class GpuContextImpl
    : public tensorpipe::channel::ContextImplBoilerplate<TContext, TChannel> {
 public:
  GpuContextImpl(const GpuChannelEnvironment& environment,
                 DeviceDescriptors descriptors)
      : tensorpipe::channel::ContextImplBoilerplate<TContext, TChannel>(
            std::move(descriptors)),
        environment_(environment),
        callbacks_(*environment.runtime) {}

  bool inLoop() const override { return loop_.inLoop(); }
  void deferToLoop(tensorpipe::DeferredExecutor::TTask task) override {
    loop_.deferToLoop(std::move(task));
  }

  const GpuChannelEnvironment& environment() const { return environment_; }
  GpuDriver& driver() { return *environment_.driver; }
  CallbackThread& callbacks() { return callbacks_; }

 protected:
  void handleErrorImpl() override {}
  void joinImpl() override { callbacks_.Join(); }

 private:
  const GpuChannelEnvironment environment_;
  tensorpipe::OnDemandDeferredExecutor loop_;
  CallbackThread callbacks_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_GPU_CONTEXT_H_
