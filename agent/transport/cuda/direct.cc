#include "agent/transport/cuda/direct.h"

#include <utility>

#include "agent/transport/cuda/direct_channel.h"
#include "agent/transport/cuda/frames.h"
#include "agent/transport/cuda/ipc.h"
#include "tensorpipe/channel/context_boilerplate.h"

namespace reprise {

using tensorpipe::transport::Connection;

std::shared_ptr<DirectContext> DirectContext::create(
    const GpuChannelEnvironment& environment) {
  GpuDriver& driver = *environment.driver;
  if (!HaveUnifiedAddressing(driver)) return nullptr;
  const ProcessIdentity& process = environment.process;
  DeviceDescriptors descriptors;
  for (int i = 0; i < driver.device_count(); ++i) {
    const GpuProperties& properties = driver.properties(i);
    if (!properties.is_compute_mode_default || !TryExporting(driver, i).ok()) {
      return nullptr;
    }
    DirectDeviceDescriptor descriptor;
    descriptor.boot_id = process.boot_id;
    descriptor.pid_namespace = process.pid_namespace;
    descriptor.ipc_namespace = process.ipc_namespace;
    descriptor.pid = process.pid;
    descriptor.device_uuid = properties.uuid;
    descriptors[tensorpipe::Device(tensorpipe::kCudaDeviceType, i)] =
        EncodeObject(std::move(descriptor));
  }
  return std::make_shared<DirectContext>(environment, std::move(descriptors));
}

bool DirectContext::canCommunicateWithRemote(const std::string& ours,
                                             const std::string& theirs) const {
  DirectDeviceDescriptor here;
  DirectDeviceDescriptor there;
  // Containers that share neither these namespaces nor the numbers of their
  // processes cannot open each other's handles.
  return DecodeObject(ours, here) && DecodeObject(theirs, there) &&
         here.boot_id == there.boot_id &&
         here.pid_namespace == there.pid_namespace &&
         here.ipc_namespace == there.ipc_namespace && here.pid != there.pid &&
         CanReadEachOther(*environment().driver, here.device_uuid,
                          there.device_uuid);
}

std::shared_ptr<tensorpipe::channel::Channel> DirectContext::createChannel(
    std::vector<std::shared_ptr<Connection>> connections,
    tensorpipe::channel::Endpoint /*endpoint*/) {
  return createChannelInternal(std::move(connections[0]),
                               std::move(connections[1]));
}

DirectChannel::DirectChannel(ConstructorToken token,
                             std::shared_ptr<DirectContext> context,
                             std::string id, std::shared_ptr<Connection> offers,
                             std::shared_ptr<Connection> replies)
    : ChannelImplBoilerplate(token, std::move(context), std::move(id)),
      offers_(std::move(offers)),
      replies_(std::move(replies)),
      memory_(context_->driver()),
      events_(context_->driver()),
      imports_(context_->driver()),
      watch_(context_->driver(), context_->callbacks()) {}

void DirectChannel::initImplFromLoop() {
  context_->enroll(*this);
  GpuHello hello;
  hello.version = GpuHello::kDirect;
  SetText(hello.boot_id, context_->environment().process.boot_id);
  SetText(hello.process, context_->environment().shared_memory->ProcessName());
  WriteStruct(*replies_, hello, callbackWrapper_([](DirectChannel&) {}));
  ReadStruct<GpuHello>(*replies_, callbackWrapper_([](DirectChannel& channel,
                                                      const GpuHello& theirs) {
    channel.OnHello(theirs);
  }));
}

void DirectChannel::handleErrorImpl() {
  offers_->close();
  replies_->close();
  FailSends();
  FailReceives();
  context_->unenroll(*this);
}

std::shared_ptr<tensorpipe::channel::Context> MakeCudaDirectContext(
    const GpuChannelEnvironment& environment) {
  return std::make_shared<
      tensorpipe::channel::ContextBoilerplate<DirectContext, DirectChannel>>(
      environment);
}

}  // namespace reprise
