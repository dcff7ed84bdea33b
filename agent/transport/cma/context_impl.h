// What the channels of one context of the channel cma share.

#ifndef REPRISE_AGENT_TRANSPORT_CMA_CONTEXT_IMPL_H_
#define REPRISE_AGENT_TRANSPORT_CMA_CONTEXT_IMPL_H_

#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/transport/cma/context.h"
#include "agent/transport/cma/copier.h"
#include "agent/transport/cma/environment.h"
#include "tensorpipe/channel/context_impl_boilerplate.h"
#include "tensorpipe/common/deferred_executor.h"

namespace reprise {

class CmaChannel;

// Functions that TensorPipe's templates name are called as they say; `copier`
// is for any thread.
class CmaContextImpl final
    : public tensorpipe::channel::ContextImplBoilerplate<CmaContextImpl,
                                                         CmaChannel> {
 public:
  // Null when the channel cannot work here.
  static std::shared_ptr<CmaContextImpl> create(
      CmaProtocol protocol, const CmaEnvironment& environment);

  CmaContextImpl(
      CmaProtocol protocol, const CmaEnvironment& environment,
      std::unordered_map<tensorpipe::Device, std::string> descriptors)
      : ContextImplBoilerplate(std::move(descriptors)),
        protocol_(protocol),
        runtime_(*environment.runtime),
        memory_(*environment.memory),
        copier_(runtime_) {}

  std::shared_ptr<tensorpipe::channel::Channel> createChannel(
      std::vector<std::shared_ptr<tensorpipe::transport::Connection>>
          connections,
      tensorpipe::channel::Endpoint endpoint);
  size_t numConnectionsNeeded() const override { return 2; }

  bool inLoop() const override { return loop_.inLoop(); }
  void deferToLoop(TTask task) override { loop_.deferToLoop(std::move(task)); }

  CmaProtocol protocol() const { return protocol_; }
  Runtime& runtime() { return runtime_; }
  ProcessMemory& memory() { return memory_; }
  Copier& copier() { return copier_; }

 protected:
  void handleErrorImpl() override {}
  void joinImpl() override { copier_.Join(); }

 private:
  const CmaProtocol protocol_;
  Runtime& runtime_;
  ProcessMemory& memory_;
  tensorpipe::OnDemandDeferredExecutor loop_;
  Copier copier_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CMA_CONTEXT_IMPL_H_
