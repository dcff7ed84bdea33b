// The devices of a world, in one object that an agent is handed: the CPU and,
// where there is a driver for them, GPUs.
//
// Thread-safe, but for construction and destruction. Storages may outlive it;
// the runtime and the driver must outlive the storages. No function but
// `GpuStreams::Synchronize` waits for a GPU.

#ifndef REPRISE_AGENT_DEVICE_DEVICES_H_
#define REPRISE_AGENT_DEVICE_DEVICES_H_

#include <cstddef>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/device.h"
#include "agent/device/driver.h"
#include "agent/device/gpu_memory.h"
#include "agent/device/gpu_streams.h"
#include "agent/device/stream_set.h"
#include "agent/runtime/runtime.h"
#include "tensorpipe/common/buffer.h"

namespace reprise {

class Devices {
 public:
  // CPUs alone. `why` there are no GPUs is told to those who ask for one.
  explicit Devices(absl::Status why =
                       absl::UnimplementedError("this program uses CPUs only"));
  // `driver`: as `FindCudaDriver` or a simulated world returns it, not null; an
  // error says why there are no GPUs.
  Devices(Runtime& runtime, absl::StatusOr<GpuDriver*> driver,
          const GpuMemory::Options& options = {});
  ~Devices();

  // OK when this machine has the device; else INVALID_ARGUMENT with the devices
  // that there are, or why there are none.
  absl::Status Check(const Device& device) const;

  // Returns null when there are no devices of that type.
  DeviceBackend* Find(std::string_view device_type) const;

  // As `DeviceBackend::Allocate` of the device's backend.
  absl::StatusOr<std::shared_ptr<Storage>> Allocate(const Device& device,
                                                    size_t num_bytes,
                                                    const StreamSet& streams);
  // As `DeviceBackend::ToBuffer`. INVALID_ARGUMENT when the storage is on a
  // device that is not there.
  absl::StatusOr<tensorpipe::Buffer> ToBuffer(Storage& storage,
                                              const StreamSet& streams);

  int gpu_count() const;
  // Null without GPUs. The runtime is the one that their channels are to use.
  Runtime* runtime() const { return runtime_; }
  GpuDriver* gpu_driver() const { return driver_; }
  GpuStreams* gpu_streams() const { return streams_.get(); }
  GpuMemory* gpu_memory() const { return memory_.get(); }

 private:
  class CpuBackend;
  class GpuBackend;

  absl::Status why_no_gpus_;
  const std::unique_ptr<CpuBackend> cpus_;
  Runtime* runtime_ = nullptr;
  GpuDriver* driver_ = nullptr;
  std::shared_ptr<GpuStreams> streams_;
  std::unique_ptr<GpuMemory> memory_;
  std::unique_ptr<GpuBackend> gpus_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_DEVICES_H_
