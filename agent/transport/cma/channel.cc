#include "agent/transport/cma/channel.h"

#include <utility>

#include "agent/transport/cma/error.h"

namespace reprise {
namespace {

using tensorpipe::transport::Connection;

std::shared_ptr<PeerLiveness> LivenessOf(
    const std::shared_ptr<Connection>& connection) {
  auto* const liveness = dynamic_cast<PeerLiveness*>(connection.get());
  if (liveness == nullptr) return nullptr;
  return {connection, liveness};
}

}  // namespace

CmaChannel::CmaChannel(ConstructorToken token,
                       std::shared_ptr<CmaContextImpl> context, std::string id,
                       std::shared_ptr<Connection> descriptors,
                       std::shared_ptr<Connection> completions)
    : ChannelImplBoilerplate(token, std::move(context), std::move(id)),
      descriptors_(std::move(descriptors)),
      completions_(std::move(completions)),
      liveness_(LivenessOf(descriptors_)) {}

void CmaChannel::initImplFromLoop() {
  context_->enroll(*this);
  if (!is_own()) return;
  secret_ = context_->runtime().RandomBits();
  const auto ours =
      std::make_shared<const OwnHello>(OwnHello{OwnHello::kVersion, secret_});
  completions_->write(ours.get(), sizeof(*ours),
                      callbackWrapper_([ours](CmaChannel&) {}));
  const auto theirs = std::make_shared<OwnHello>();
  completions_->read(
      theirs.get(), sizeof(*theirs),
      callbackWrapper_([theirs](CmaChannel& channel, const void*, size_t) {
        if (channel.error_) return;
        if (theirs->version != OwnHello::kVersion) {
          return channel.setError(
              CmaErrorOf("the peer speaks another version"));
        }
        channel.peer_secret_ = theirs->secret;
        channel.OfferWhatCanBe();
      }));
}

void CmaChannel::handleErrorImpl() {
  *stop_ = true;
  // The peer learns of the error first: what it has not copied by now is lost
  // anyway.
  descriptors_->close();
  completions_->close();
  FailSends();
  FailReceives();
  context_->unenroll(*this);
}

}  // namespace reprise
