#include "agent/transport/cuda/host_channel.h"

#include "agent/transport/cuda/frames.h"
#include "tensorpipe/common/cpu_buffer.h"

namespace reprise {
namespace {

using tensorpipe::CpuBuffer;
using tensorpipe::Error;
using tensorpipe::transport::Connection;

}  // namespace

HostChannel::HostChannel(ConstructorToken token,
                         std::shared_ptr<HostContext> context, std::string id,
                         std::shared_ptr<tensorpipe::channel::Channel> cpu,
                         std::shared_ptr<Connection> offers,
                         std::shared_ptr<Connection> replies)
    : ChannelImplBoilerplate(token, std::move(context), std::move(id)),
      cpu_(std::move(cpu)),
      slots_(context_->slots()),
      offers_(std::move(offers)),
      replies_(std::move(replies)),
      segment_slots_(static_cast<int>(slots_.number)),
      unread_(slots_.number),
      is_read_(slots_.number, false),
      sender_(*this, context_->driver(), context_->callbacks(),
              slots_.chunk_bytes),
      receiver_(*this, context_->driver(), context_->callbacks(),
                slots_.chunk_bytes) {
  sender_.Pause();  // until the way is known
}

void HostChannel::initImplFromLoop() {
  context_->enroll(*this);
  GpuHello hello;
  hello.version = GpuHello::kHost;
  hello.slot_bytes = slots_.chunk_bytes;
  hello.num_slots = slots_.number;
  SetText(hello.boot_id, context_->environment().process.boot_id);
  SetText(hello.process, context_->environment().shared_memory->ProcessName());
  WriteStruct(*replies_, hello, callbackWrapper_([](HostChannel&) {}));
  ReadStruct<GpuHello>(*replies_, callbackWrapper_([](HostChannel& channel,
                                                      const GpuHello& theirs) {
    channel.OnHello(theirs);
  }));
}

void HostChannel::handleErrorImpl() {
  cpu_->close();
  offers_->close();
  replies_->close();
  // Whom the peer has not answered it never will.
  for (Done& done : unread_) {
    if (done != nullptr) std::exchange(done, nullptr)(error_);
  }
  sender_.OnError();
  receiver_.OnError();
  context_->unenroll(*this);
}

// --- The sending half ---

void HostChannel::sendImplFromLoop(uint64_t, tensorpipe::Buffer buffer,
                                   size_t length,
                                   tensorpipe::channel::TSendCallback done) {
  if (length == 0) return done(Error::kSuccess);
  const auto gpu = GpuBufferOf(context_->driver(), buffer);
  if (!gpu.has_value()) {
    setError(GpuErrorOf("a tensor to send is in no memory of a GPU"));
    return done(error_);
  }
  has_sent_ = true;
  sender_.Send({true, gpu->stream, static_cast<char*>(gpu->ptr)}, length,
               std::move(done));
  ChooseWay();
}

void HostChannel::OnHello(const GpuHello& hello) {
  if (error_) return;
  if (hello.version != GpuHello::kHost ||
      hello.slot_bytes != slots_.chunk_bytes ||
      hello.num_slots != slots_.number) {
    return setError(GpuErrorOf("the peer speaks another version of cuda_host"));
  }
  peer_ = hello;
  ReadReply();
  ChooseWay();
}

void HostChannel::ChooseWay() {
  if (error_ || way_ != Way::kUnknown || !has_sent_ || !peer_.has_value()) {
    return;
  }
  const GpuChannelEnvironment& environment = context_->environment();
  if (TextOf(peer_->boot_id) == environment.process.boot_id) {
    auto segment = RegisteredSegment::Create(environment, segment_bytes());
    if (segment.ok()) {
      segment_ = *std::move(segment);
      way_ = Way::kAsked;
      return Offer(HostOffer::kSegment, {});
    }
  }
  SetWay(Way::kStreamed);
}

void HostChannel::SetWay(Way way) {
  way_ = way;
  if (way == Way::kStreamed) segment_ = nullptr;
  sender_.Resume();
}

void HostChannel::ReadReply() {
  ReadStruct<HostReply>(*replies_, callbackWrapper_([](HostChannel& channel,
                                                       const HostReply& reply) {
    channel.OnReply(reply);
  }));
}

void HostChannel::OnReply(const HostReply& reply) {
  if (error_) return;
  switch (reply.kind) {
    case HostReply::kAttached:
    case HostReply::kRefused:
      if (way_ != Way::kAsked) break;
      SetWay(reply.kind == HostReply::kAttached ? Way::kShared
                                                : Way::kStreamed);
      return ReadReply();
    case HostReply::kRead:
      if (reply.slot >= slots_.number || unread_[reply.slot] == nullptr) break;
      std::exchange(unread_[reply.slot], nullptr)(Error::kSuccess);
      return ReadReply();
  }
  setError(GpuErrorOf("the peer replies to what it was not asked"));
}

void HostChannel::Offer(HostOffer::Kind kind, const StagedChunk& chunk) {
  HostOffer offer;
  offer.kind = kind;
  if (kind == HostOffer::kShared) {
    offer.slot = static_cast<uint32_t>(chunk.slot);
  }
  offer.length = chunk.num_bytes;
  if (kind == HostOffer::kSegment) SetText(offer.name, segment_->name());
  WriteStruct(*offers_, offer, callbackWrapper_([](HostChannel&) {}));
}

void HostChannel::TakeSendSlot(SlotPool::Taker taker) {
  if (way_ == Way::kShared) return segment_slots_.Take(std::move(taker));
  PinnedSlots& pinned = context_->send_slots();
  if (absl::Status made = pinned.Make(); !made.ok()) {
    return setError(GpuErrorOf(made));
  }
  pinned.slots().Take([self = shared_from_this(),
                       taker = std::move(taker)](int slot) { taker(slot); });
}

char* HostChannel::send_slot_at(int slot) {
  return way_ == Way::kShared ? segment_->data() + slot * slots_.chunk_bytes
                              : context_->send_slots().At(slot);
}

void HostChannel::GiveSendSlot(int slot) {
  if (way_ == Way::kShared) return segment_slots_.Give(slot);
  context_->send_slots().slots().Give(slot);
}

void HostChannel::Announce(const StagedChunk& chunk) {
  // What is in shared memory is there only when it has been copied.
  if (way_ == Way::kStreamed) Offer(HostOffer::kStreamed, chunk);
}

void HostChannel::Deliver(const StagedChunk& chunk, Done done) {
  if (way_ == Way::kShared) {
    unread_[chunk.slot] = std::move(done);
    return Offer(HostOffer::kShared, chunk);
  }
  cpu_->send(CpuBuffer{chunk.data}, chunk.num_bytes, std::move(done));
}

// --- The receiving half ---

void HostChannel::recvImplFromLoop(uint64_t, tensorpipe::Buffer buffer,
                                   size_t length,
                                   tensorpipe::channel::TRecvCallback done) {
  if (length == 0) return done(Error::kSuccess);
  const auto gpu = GpuBufferOf(context_->driver(), buffer);
  if (!gpu.has_value()) {
    setError(GpuErrorOf("a tensor to receive is in no memory of a GPU"));
    return done(error_);
  }
  receiver_.Receive({true, gpu->stream, static_cast<char*>(gpu->ptr)}, length,
                    std::move(done));
}

void HostChannel::AwaitChunk(const StagedChunkPtr& chunk,
                             std::function<void()> begun, Done done) {
  ReadStruct<HostOffer>(
      *offers_, callbackWrapper_(
                    [chunk, begun = std::move(begun), done = std::move(done)](
                        HostChannel& channel, const HostOffer& offer) {
                      if (channel.error_) return done(channel.error_);
                      channel.OnOffer(offer, chunk, begun, done);
                    }));
}

void HostChannel::OnOffer(const HostOffer& offer, const StagedChunkPtr& chunk,
                          const std::function<void()>& begun,
                          const Done& done) {
  const bool is_chunk = offer.kind != HostOffer::kSegment;
  if (is_chunk && offer.length != chunk->num_bytes) {
    return done(GpuErrorOf("the peer sends another length than was expected"));
  }
  switch (offer.kind) {
    case HostOffer::kSegment:
      if (has_asked_) break;
      Attach(TextOf(offer.name));
      return AwaitChunk(chunk, begun, done);
    case HostOffer::kShared:
      if (peer_segment_ == nullptr || offer.slot >= slots_.number ||
          is_read_[offer.slot]) {
        break;
      }
      is_read_[offer.slot] = true;
      chunk->slot = static_cast<int>(offer.slot);
      chunk->data = peer_segment_->data() + offer.slot * slots_.chunk_bytes;
      chunk->is_shared = true;
      done(Error::kSuccess);
      return begun();
    case HostOffer::kStreamed:
      if (peer_segment_ != nullptr) break;
      return TakeBytes(chunk, begun, done);
  }
  done(GpuErrorOf("the peer offers what it cannot have"));
}

void HostChannel::Attach(const std::string& name) {
  has_asked_ = true;
  auto opened =
      RegisteredSegment::Open(context_->environment(), name, segment_bytes());
  // If it does not work, there is the other way.
  if (opened.ok()) peer_segment_ = *std::move(opened);
  Reply(peer_segment_ != nullptr ? HostReply::kAttached : HostReply::kRefused,
        0);
}

void HostChannel::TakeBytes(const StagedChunkPtr& chunk,
                            const std::function<void()>& begun,
                            const Done& done) {
  PinnedSlots& pinned = context_->receive_slots();
  if (absl::Status made = pinned.Make(); !made.ok()) {
    return done(GpuErrorOf(made));
  }
  pinned.slots().Take(
      [self = shared_from_this(), chunk, begun, done](int slot) {
        chunk->slot = slot;
        chunk->data = self->context_->receive_slots().At(slot);
        if (self->error_) return done(self->error_);
        self->cpu_->recv(CpuBuffer{chunk->data}, chunk->num_bytes, done);
        begun();
      });
}

void HostChannel::ReleaseChunk(const StagedChunk& chunk) {
  if (!chunk.is_shared) {
    return context_->receive_slots().slots().Give(chunk.slot);
  }
  is_read_[chunk.slot] = false;
  if (!error_) Reply(HostReply::kRead, static_cast<uint32_t>(chunk.slot));
}

void HostChannel::Reply(HostReply::Kind kind, uint32_t slot) {
  HostReply reply;
  reply.kind = kind;
  reply.slot = slot;
  WriteStruct(*replies_, reply, callbackWrapper_([](HostChannel&) {}));
}

}  // namespace reprise
