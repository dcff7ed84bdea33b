// A channel cma: see context.h for what it promises, wire.h for its frames.

#ifndef REPRISE_AGENT_TRANSPORT_CMA_CHANNEL_H_
#define REPRISE_AGENT_TRANSPORT_CMA_CHANNEL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "agent/transport/cma/context_impl.h"
#include "agent/transport/cma/remote_copy.h"
#include "agent/transport/cma/staging.h"
#include "agent/transport/cma/validity.h"
#include "agent/transport/cma/wire.h"
#include "agent/transport/peer_liveness.h"
#include "tensorpipe/channel/channel_impl_boilerplate.h"
#include "tensorpipe/transport/connection.h"

namespace reprise {

// Used in the context's loop; TensorPipe's template hands over to it.
class CmaChannel final
    : public tensorpipe::channel::ChannelImplBoilerplate<CmaContextImpl,
                                                         CmaChannel> {
 public:
  CmaChannel(ConstructorToken token, std::shared_ptr<CmaContextImpl> context,
             std::string id,
             std::shared_ptr<tensorpipe::transport::Connection> descriptors,
             std::shared_ptr<tensorpipe::transport::Connection> completions);

 protected:
  void initImplFromLoop() override;
  void sendImplFromLoop(uint64_t number, tensorpipe::Buffer buffer,
                        size_t length,
                        tensorpipe::channel::TSendCallback done) override;
  void recvImplFromLoop(uint64_t number, tensorpipe::Buffer buffer,
                        size_t length,
                        tensorpipe::channel::TRecvCallback done) override;
  void handleErrorImpl() override;

 private:
  // As much as lies in pages of the channel's own at a time, but for a single
  // tensor that is larger.
  static constexpr size_t kMaxStagedBytes = size_t{64} << 20;

  struct Send {
    const char* bytes;
    size_t length;
    tensorpipe::channel::TSendCallback done;
    ValidityWord word;  // of an own channel
    // Of a stock one:
    Staging staging;
    bool is_staging = false;
    size_t staged = 0;  // bytes; the copying thread's while it `is_staging`
  };
  struct Receive {
    void* into;
    size_t length;
    tensorpipe::channel::TRecvCallback done;
    uint64_t value = 0;  // that its word must have
    bool is_copying = false;
    bool is_copied = false;
  };

  bool is_own() const { return context_->protocol() == CmaProtocol::kOwn; }

  // send.cc
  void OfferWhatCanBe();
  bool Stage(const std::shared_ptr<Send>& send);
  void OnStaged(Send& send);
  bool OfferOwn(Send& send);
  void OfferStaged(const Send& send);
  void OnCompletion();
  void FailSends();
  // receive.cc
  void ReadDescriptor(const std::shared_ptr<Receive>& receive);
  void Copy(const std::shared_ptr<Receive>& receive, RemoteCopy copy);
  void OnCopied(Receive& receive);
  void FailReceives();

  const std::shared_ptr<tensorpipe::transport::Connection> descriptors_;
  const std::shared_ptr<tensorpipe::transport::Connection> completions_;
  const std::shared_ptr<PeerLiveness> liveness_;  // may be null
  const std::shared_ptr<std::atomic<bool>> stop_ =
      std::make_shared<std::atomic<bool>>(false);

  // Sends in their order: those that the peer does not know of, and after them
  // those that it may be copying.
  std::deque<std::shared_ptr<Send>> waiting_;
  std::deque<std::shared_ptr<Send>> offered_;
  size_t staged_bytes_ = 0;
  uint64_t num_offered_ = 0;
  std::optional<uint64_t> peer_secret_;

  std::deque<std::shared_ptr<Receive>> receives_;  // in their order
  uint64_t num_received_ = 0;
  uint64_t secret_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CMA_CHANNEL_H_
