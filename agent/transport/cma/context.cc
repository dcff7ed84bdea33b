#include "agent/transport/cma/context.h"

#include <utility>

#include "agent/transport/cma/channel.h"
#include "agent/transport/cma/context_impl.h"
#include "tensorpipe/channel/context_boilerplate.h"
#include "tensorpipe/common/device.h"

namespace reprise {

std::shared_ptr<CmaContextImpl> CmaContextImpl::create(
    CmaProtocol protocol, const CmaEnvironment& environment) {
  if (!environment.domain.ok()) return nullptr;
  const tensorpipe::Device memory(tensorpipe::kCpuDeviceType, 0);
  return std::make_shared<CmaContextImpl>(
      protocol, environment,
      std::unordered_map<tensorpipe::Device, std::string>{
          {memory, *environment.domain}});
}

std::shared_ptr<tensorpipe::channel::Channel> CmaContextImpl::createChannel(
    std::vector<std::shared_ptr<tensorpipe::transport::Connection>> connections,
    tensorpipe::channel::Endpoint /*endpoint*/) {
  return createChannelInternal(std::move(connections[0]),
                               std::move(connections[1]));
}

std::shared_ptr<tensorpipe::channel::Context> MakeCmaContext(
    CmaProtocol protocol, CmaEnvironment environment) {
  return std::make_shared<
      tensorpipe::channel::ContextBoilerplate<CmaContextImpl, CmaChannel>>(
      protocol, std::move(environment));
}

}  // namespace reprise
