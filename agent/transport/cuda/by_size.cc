#include "agent/transport/cuda/by_size.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "agent/transport/cuda/gpu_context.h"
#include "tensorpipe/channel/channel.h"
#include "tensorpipe/channel/channel_impl_boilerplate.h"
#include "tensorpipe/channel/context_boilerplate.h"

namespace reprise {
namespace {

using tensorpipe::Error;
using tensorpipe::channel::Endpoint;
using tensorpipe::channel::TRecvCallback;
using tensorpipe::channel::TSendCallback;
using ConnectionPtr = std::shared_ptr<tensorpipe::transport::Connection>;
using ChannelPtr = std::shared_ptr<tensorpipe::channel::Channel>;
using ContextPtr = std::shared_ptr<tensorpipe::channel::Context>;

class BySizeChannel;

// Two ends must mean the same by small, or they would wait for each other.
std::string Prefix(size_t most_small_bytes) {
  return absl::StrCat(most_small_bytes, " ");
}

DeviceDescriptors Describe(size_t most_small_bytes,
                           const tensorpipe::channel::Context& large) {
  DeviceDescriptors descriptors;
  for (const auto& [device, descriptor] : large.deviceDescriptors()) {
    descriptors[device] = Prefix(most_small_bytes) + descriptor;
  }
  return descriptors;
}

class BySizeContext final
    : public GpuContextImpl<BySizeContext, BySizeChannel> {
 public:
  static std::shared_ptr<BySizeContext> create(
      const GpuChannelEnvironment& environment, size_t most_small_bytes,
      ContextPtr small, ContextPtr large) {
    if (!small->isViable() || !large->isViable()) return nullptr;
    return std::make_shared<BySizeContext>(environment, most_small_bytes,
                                           std::move(small), std::move(large));
  }

  BySizeContext(const GpuChannelEnvironment& environment,
                size_t most_small_bytes, ContextPtr small, ContextPtr large)
      : GpuContextImpl(environment, Describe(most_small_bytes, *large)),
        most_small_bytes_(most_small_bytes),
        small_(std::move(small)),
        large_(std::move(large)) {}

  ChannelPtr createChannel(std::vector<ConnectionPtr> connections,
                           Endpoint endpoint);
  size_t numConnectionsNeeded() const override {
    return large_->numConnectionsNeeded() + small_->numConnectionsNeeded();
  }
  bool canCommunicateWithRemote(const std::string& ours,
                                const std::string& theirs) const override {
    absl::string_view our_own = ours;
    absl::string_view their_own = theirs;
    const std::string prefix = Prefix(most_small_bytes_);
    return absl::ConsumePrefix(&our_own, prefix) &&
           absl::ConsumePrefix(&their_own, prefix) &&
           large_->canCommunicateWithRemote(std::string(our_own),
                                            std::string(their_own));
  }
  size_t most_small_bytes() const { return most_small_bytes_; }

 protected:
  void handleErrorImpl() override {
    small_->close();
    large_->close();
  }
  void joinImpl() override {
    small_->join();
    large_->join();
    GpuContextImpl::joinImpl();
  }
  void setIdImpl() override {
    small_->setId(id_ + ".small");
    large_->setId(id_ + ".large");
  }

 private:
  const size_t most_small_bytes_;
  const ContextPtr small_;
  const ContextPtr large_;
};

class BySizeChannel final
    : public tensorpipe::channel::ChannelImplBoilerplate<BySizeContext,
                                                         BySizeChannel> {
 public:
  BySizeChannel(ConstructorToken token, std::shared_ptr<BySizeContext> context,
                std::string id, ChannelPtr small, ChannelPtr large)
      : ChannelImplBoilerplate(token, std::move(context), std::move(id)),
        small_(std::move(small)),
        large_(std::move(large)) {}

 protected:
  void initImplFromLoop() override { context_->enroll(*this); }
  void sendImplFromLoop(uint64_t, tensorpipe::Buffer buffer, size_t length,
                        TSendCallback done) override {
    For(length).send(buffer, length, ThenCall(std::move(done)));
  }
  void recvImplFromLoop(uint64_t, tensorpipe::Buffer buffer, size_t length,
                        TRecvCallback done) override {
    For(length).recv(buffer, length, ThenCall(std::move(done)));
  }
  void handleErrorImpl() override {
    small_->close();
    large_->close();
    context_->unenroll(*this);
  }

 private:
  tensorpipe::channel::Channel& For(size_t length) {
    return length <= context_->most_small_bytes() ? *small_ : *large_;
  }
  // What one of the two has done in time is good, whatever the other one says.
  std::function<void(const Error&)> ThenCall(
      std::function<void(const Error&)> done) {
    return [done = std::move(done), fail = callbackWrapper_([](BySizeChannel&) {
                                    })](const Error& error) mutable {
      done(error);
      if (error) fail(error);
    };
  }

  const ChannelPtr small_;
  const ChannelPtr large_;
};

ChannelPtr BySizeContext::createChannel(std::vector<ConnectionPtr> connections,
                                        Endpoint endpoint) {
  const auto first_of_small =
      connections.begin() +
      static_cast<std::ptrdiff_t>(large_->numConnectionsNeeded());
  std::vector<ConnectionPtr> of_small(
      std::make_move_iterator(first_of_small),
      std::make_move_iterator(connections.end()));
  connections.erase(first_of_small, connections.end());
  ChannelPtr small = small_->createChannel(std::move(of_small), endpoint);
  return createChannelInternal(
      std::move(small),
      large_->createChannel(std::move(connections), endpoint));
}

}  // namespace

std::shared_ptr<tensorpipe::channel::Context> MakeBySizeContext(
    const GpuChannelEnvironment& environment, size_t most_small_bytes,
    std::shared_ptr<tensorpipe::channel::Context> small,
    std::shared_ptr<tensorpipe::channel::Context> large) {
  return std::make_shared<
      tensorpipe::channel::ContextBoilerplate<BySizeContext, BySizeChannel>>(
      environment, most_small_bytes, std::move(small), std::move(large));
}

}  // namespace reprise
