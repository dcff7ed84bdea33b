#include "agent/transport/cuda/host.h"

#include <utility>

#include "agent/transport/cuda/host_channel.h"
#include "tensorpipe/channel/context_boilerplate.h"

namespace reprise {

std::shared_ptr<HostContext> HostContext::create(
    const GpuChannelEnvironment& environment,
    std::shared_ptr<tensorpipe::channel::Context> cpu, CudaHostSlots slots) {
  if (cpu == nullptr || !cpu->isViable() ||
      environment.driver->device_count() == 0) {
    return nullptr;
  }
  const auto& of_cpu = cpu->deviceDescriptors();
  const auto known =
      of_cpu.find(tensorpipe::Device(tensorpipe::kCpuDeviceType, 0));
  if (known == of_cpu.end()) return nullptr;
  return std::make_shared<HostContext>(
      environment, DescribeGpus(*environment.driver, known->second),
      std::move(cpu), slots);
}

std::shared_ptr<tensorpipe::channel::Channel> HostContext::createChannel(
    std::vector<std::shared_ptr<tensorpipe::transport::Connection>> connections,
    tensorpipe::channel::Endpoint endpoint) {
  auto replies = std::move(connections.back());
  connections.pop_back();
  auto offers = std::move(connections.back());
  connections.pop_back();
  return createChannelInternal(
      cpu_->createChannel(std::move(connections), endpoint), std::move(offers),
      std::move(replies));
}

std::shared_ptr<tensorpipe::channel::Context> MakeCudaHostContext(
    const GpuChannelEnvironment& environment,
    std::shared_ptr<tensorpipe::channel::Context> cpu, CudaHostSlots slots) {
  return std::make_shared<
      tensorpipe::channel::ContextBoilerplate<HostContext, HostChannel>>(
      environment, std::move(cpu), slots);
}

}  // namespace reprise
