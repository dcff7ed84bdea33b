#include "agent/transport/cuda/ipc.h"

#include <algorithm>
#include <string>
#include <utility>

#include "agent/transport/cuda/frames.h"
#include "agent/transport/cuda/ipc_channel.h"
#include "tensorpipe/channel/context_boilerplate.h"

namespace reprise {

absl::Status TryExporting(GpuDriver& driver, int device) {
  absl::StatusOr<GpuEvent> event =
      driver.CreateEvent(device, /*is_shared=*/true);
  if (!event.ok()) return event.status();
  absl::Status status = driver.ExportEvent(*event).status();
  driver.DestroyEvent(*event);
  if (!status.ok()) return status;
  constexpr size_t kLeastBytes = 4096;
  absl::StatusOr<void*> memory = driver.Allocate(device, kLeastBytes);
  if (!memory.ok()) return memory.status();
  status = driver.ExportMemory(device, *memory).status();
  driver.Free(device, *memory);
  return status;
}

std::shared_ptr<IpcContext> IpcContext::create(
    const GpuChannelEnvironment& environment) {
  GpuDriver& driver = *environment.driver;
  if (!HaveUnifiedAddressing(driver)) return nullptr;
  DeviceDescriptors descriptors;
  for (int i = 0; i < driver.device_count(); ++i) {
    const GpuProperties& properties = driver.properties(i);
    if (!properties.is_compute_mode_default || !TryExporting(driver, i).ok()) {
      return nullptr;
    }
    IpcDeviceDescriptor descriptor;
    descriptor.boot_id = environment.process.boot_id;
    descriptor.pid = environment.process.pid;
    descriptor.device_uuid = properties.uuid;
    descriptors[tensorpipe::Device(tensorpipe::kCudaDeviceType, i)] =
        EncodeObject(std::move(descriptor));
  }
  return std::make_shared<IpcContext>(environment, std::move(descriptors));
}

bool IpcContext::canCommunicateWithRemote(const std::string& ours,
                                          const std::string& theirs) const {
  IpcDeviceDescriptor here;
  IpcDeviceDescriptor there;
  return DecodeObject(ours, here) && DecodeObject(theirs, there) &&
         here.boot_id == there.boot_id && here.pid != there.pid &&
         CanReadEachOther(*environment().driver, here.device_uuid,
                          there.device_uuid);
}

std::shared_ptr<tensorpipe::channel::Channel> IpcContext::createChannel(
    std::vector<std::shared_ptr<tensorpipe::transport::Connection>> connections,
    tensorpipe::channel::Endpoint /*endpoint*/) {
  return createChannelInternal(std::move(connections[0]),
                               std::move(connections[1]));
}

std::shared_ptr<tensorpipe::channel::Context> MakeCudaIpcContext(
    const GpuChannelEnvironment& environment) {
  return std::make_shared<
      tensorpipe::channel::ContextBoilerplate<IpcContext, IpcChannel>>(
      environment);
}

}  // namespace reprise
