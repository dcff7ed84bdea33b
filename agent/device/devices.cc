#include "agent/device/devices.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/device/gpu_buffer.h"
#include "tensorpipe/common/cpu_buffer.h"

namespace reprise {

class Devices::CpuBackend final : public DeviceBackend {
 public:
  absl::StatusOr<std::shared_ptr<Storage>> Allocate(const Device& device,
                                                    size_t num_bytes,
                                                    const StreamSet&) override {
    if (device == CpuDevice()) return AllocateCpu(num_bytes);
    return absl::InvalidArgumentError(
        absl::StrCat("there is no device ", device.ToString()));
  }

  tensorpipe::Buffer ToBuffer(Storage& storage, const StreamSet&) override {
    return tensorpipe::CpuBuffer{storage.data()};
  }
};

class Devices::GpuBackend final : public DeviceBackend {
 public:
  explicit GpuBackend(GpuMemory& memory) : memory_(memory) {}

  absl::StatusOr<std::shared_ptr<Storage>> Allocate(
      const Device& device, size_t num_bytes,
      const StreamSet& streams) override {
    return memory_.Allocate(streams.On(device.index), num_bytes);
  }

  tensorpipe::Buffer ToBuffer(Storage& storage,
                              const StreamSet& streams) override {
    const GpuStream stream = streams.On(storage.device().index);
    storage.RecordUse(stream);
    return GpuBuffer{storage.data(), stream};
  }

 private:
  GpuMemory& memory_;
};

Devices::Devices(absl::Status why)
    : why_no_gpus_(std::move(why)), cpus_(std::make_unique<CpuBackend>()) {}

Devices::Devices(Runtime& runtime, absl::StatusOr<GpuDriver*> driver,
                 const GpuMemory::Options& options)
    : why_no_gpus_(driver.status()), cpus_(std::make_unique<CpuBackend>()) {
  if (!driver.ok()) return;
  runtime_ = &runtime;
  driver_ = *driver;
  streams_ = std::make_shared<GpuStreams>(runtime, *driver_);
  memory_ = std::make_unique<GpuMemory>(runtime, streams_, options);
  gpus_ = std::make_unique<GpuBackend>(*memory_);
}

Devices::~Devices() = default;

absl::Status Devices::Check(const Device& device) const {
  if (device == CpuDevice()) return absl::OkStatus();
  const std::string no_such =
      absl::StrCat("there is no device ", device.ToString());
  if (device.type != kGpuDeviceType) return absl::InvalidArgumentError(no_such);
  if (driver_ == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(no_such, ": ", why_no_gpus_.message()));
  }
  return streams_->Check(device.index);
}

DeviceBackend* Devices::Find(std::string_view device_type) const {
  if (device_type == kGpuDeviceType) return gpus_.get();
  return device_type == CpuDevice().type ? cpus_.get() : nullptr;
}

absl::StatusOr<std::shared_ptr<Storage>> Devices::Allocate(
    const Device& device, size_t num_bytes, const StreamSet& streams) {
  if (absl::Status status = Check(device); !status.ok()) return status;
  return Find(device.type)->Allocate(device, num_bytes, streams);
}

absl::StatusOr<tensorpipe::Buffer> Devices::ToBuffer(Storage& storage,
                                                     const StreamSet& streams) {
  if (absl::Status status = Check(storage.device()); !status.ok()) {
    return status;
  }
  return Find(storage.device().type)->ToBuffer(storage, streams);
}

int Devices::gpu_count() const {
  return driver_ == nullptr ? 0 : driver_->device_count();
}

}  // namespace reprise
