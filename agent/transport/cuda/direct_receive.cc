// The receiving half of the channel cuda_direct (direct_channel.h).

#include "agent/planted.h"
#include "agent/transport/cuda/direct_channel.h"
#include "agent/transport/cuda/frames.h"

namespace reprise {

using tensorpipe::Error;

void DirectChannel::recvImplFromLoop(uint64_t, tensorpipe::Buffer buffer,
                                     size_t length,
                                     tensorpipe::channel::TRecvCallback done) {
  if (length == 0) return done(Error::kSuccess);
  const auto gpu = GpuBufferOf(context_->driver(), buffer);
  if (!gpu.has_value()) {
    setError(GpuErrorOf("a tensor to receive is in no memory of a GPU"));
    return done(error_);
  }
  receives_.push_back({*gpu, length, std::move(done)});
  ReceiveNext();
}

void DirectChannel::ReceiveNext() {
  if (error_ || is_reading_ || receives_.empty()) return;
  is_reading_ = true;
  ReadStruct<DirectOffer>(
      *offers_,
      callbackWrapper_([](DirectChannel& channel, const DirectOffer& offer) {
        channel.is_reading_ = false;
        channel.OnOffer(offer);
      }));
}

void DirectChannel::OnOffer(const DirectOffer& offer) {
  if (error_) return;
  Receive& receive = receives_.front();
  if (offer.ticket >= DirectClaims::kNumTickets ||
      offer.allocation_index >= ExportedMemory::kMaxAllocations ||
      offer.length == 0 || offer.length > receive.length - receive.position) {
    return setError(GpuErrorOf("the peer offers what it cannot have"));
  }
  absl::Status status = Claim(offer);
  if (status.ok()) {
    status = Copy(offer, receive);
    // Nothing is enqueued any more.
    if (!status.ok()) peer_claims_->Finish(offer.ticket);
  }
  if (!status.ok()) return setError(GpuErrorOf(status));
  receive.position += offer.length;
  if (receive.position == receive.length) {
    const auto done = std::move(receive.done);
    receives_.pop_front();
    done(Error::kSuccess);
  }
  ReceiveNext();
}

absl::Status DirectChannel::Claim(const DirectOffer& offer) {
  const std::string name = TextOf(offer.claims);
  if (peer_claims_ == nullptr) {
    absl::StatusOr<std::unique_ptr<DirectClaims>> claims =
        DirectClaims::Open(*context_->environment().shared_memory, name);
    if (!claims.ok()) return claims.status();
    peer_claims_ = *std::move(claims);
  }
  if (peer_claims_->name() != name) {
    return absl::InvalidArgumentError("the peer has changed its claims");
  }
  if (!peer_claims_->Claim(offer.ticket)) {
    return absl::AbortedError(
        "the sender let go of its tensor before it was copied");
  }
  return absl::OkStatus();
}

absl::Status DirectChannel::Copy(const DirectOffer& offer,
                                 const Receive& receive) {
  GpuDriver& driver = context_->driver();
  const GpuStream stream = receive.buffer.stream;
  const auto memory = imports_.MemoryOf(offer, stream.device);
  if (!memory.ok()) return memory.status();
  const absl::StatusOr<const char*> from = (*memory)->Find(offer);
  if (!from.ok()) return from.status();
  const absl::StatusOr<GpuEvent> event = imports_.EventOf(offer, stream.device);
  if (!event.ok()) return event.status();
  if (!REPRISE_PLANTED(cuda_direct_no_wait)) {
    absl::Status status = driver.Wait(stream, *event);
    if (!status.ok()) return status;
  }
  absl::Status status =
      driver.Copy(static_cast<char*>(receive.buffer.ptr) + receive.position,
                  *from, offer.length, stream);
  if (!status.ok()) return status;
  if (REPRISE_PLANTED(cuda_direct_early_reply)) {
    ++num_copies_;
    OnCopied(offer.ticket);
    return absl::OkStatus();
  }
  ++num_copies_;
  status = watch_.After(
      stream,
      // It keeps the memory open.
      [memory = *memory, wrapped = callbackWrapper_(
                             [ticket = offer.ticket](DirectChannel& channel) {
                               channel.OnCopied(ticket);
                             })](const absl::Status& copied) mutable {
        memory = nullptr;
        wrapped(GpuErrorOf(copied));
      });
  if (!status.ok()) --num_copies_;
  return status;
}

void DirectChannel::OnCopied(uint32_t ticket) {
  --num_copies_;
  // Also if the copy failed: nothing reads the memory any more.
  peer_claims_->Finish(ticket);
  if (!error_) {
    return WriteStruct(*replies_, DirectReply{ticket},
                       callbackWrapper_([](DirectChannel&) {}));
  }
  if (num_copies_ == 0) imports_.Clear();
}

void DirectChannel::FailReceives() {
  for (const Receive& receive : std::exchange(receives_, {})) {
    receive.done(error_);
  }
  if (num_copies_ == 0) imports_.Clear();
}

}  // namespace reprise
