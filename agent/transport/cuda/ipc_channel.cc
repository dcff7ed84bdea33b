#include "agent/transport/cuda/ipc_channel.h"

#include "agent/planted.h"
#include "agent/transport/cuda/frames.h"

namespace reprise {

using tensorpipe::Error;
using tensorpipe::transport::Connection;

IpcChannel::IpcChannel(ConstructorToken token,
                       std::shared_ptr<IpcContext> context, std::string id,
                       std::shared_ptr<Connection> descriptors,
                       std::shared_ptr<Connection> replies)
    : ChannelImplBoilerplate(token, std::move(context), std::move(id)),
      descriptors_(std::move(descriptors)),
      replies_(std::move(replies)),
      liveness_(std::dynamic_pointer_cast<PeerLiveness>(descriptors_)),
      inboxes_(context_->driver()),
      watch_(context_->driver(), context_->callbacks()) {}

// --- Sending ---

void IpcChannel::sendImplFromLoop(uint64_t, tensorpipe::Buffer buffer,
                                  size_t length,
                                  tensorpipe::channel::TSendCallback done) {
  if (length == 0) return done(Error::kSuccess);
  const auto gpu = GpuBufferOf(context_->driver(), buffer);
  if (!gpu.has_value()) {
    setError(GpuErrorOf("a tensor to send is in no memory of a GPU"));
    return done(error_);
  }
  sends_.push_back({*gpu, length, std::move(done)});
  SendNext();
}

void IpcChannel::SendNext() {
  // A slot may come at once.
  while (!error_ && !waits_for_slot_ && !sends_.empty()) {
    const int device = sends_.front().buffer.stream.device;
    std::shared_ptr<IpcOutbox> outbox;
    if (const auto it = outboxes_.find(device); it != outboxes_.end()) {
      outbox = it->second;
    } else {
      absl::StatusOr<std::shared_ptr<IpcOutbox>> made =
          context_->outboxes().Of(device);
      if (!made.ok()) return setError(GpuErrorOf(made.status()));
      outbox = *std::move(made);
    }
    waits_for_slot_ = true;
    outbox->slots().Take([self = shared_from_this(), outbox](int slot) {
      self->OnSlot({outbox, slot});
    });
  }
}

void IpcChannel::OnSlot(const Slot& slot) {
  waits_for_slot_ = false;
  if (slot.number == SlotPool::kNone) {
    return setError(GpuErrorOf(
        "peers that failed while they might read it have taken up the staging "
        "memory of this channel"));
  }
  if (error_) return slot.outbox->slots().Give(slot.number);
  Send& send = sends_.front();
  if (absl::Status status = Fill(slot, send); !status.ok()) {
    // Nobody was told of the slot.
    slot.outbox->slots().Give(slot.number);
    return setError(GpuErrorOf(status));
  }
  const int device = send.buffer.stream.device;
  IpcDescriptor descriptor;
  descriptor.device = device;
  descriptor.slot = static_cast<uint64_t>(slot.number);
  if (outboxes_.emplace(device, slot.outbox).second) {
    descriptor.outbox = slot.outbox->info();
  }
  offered_.push_back(slot);
  WriteObject(*descriptors_, std::move(descriptor),
              callbackWrapper_([](IpcChannel&) {}));
  ReadEmpty(*replies_,
            callbackWrapper_([](IpcChannel& channel) { channel.OnReply(); }));
  send.position += send.chunk_bytes();
  if (send.position < send.length) return SendNext();
  const auto done = std::move(send.done);
  sends_.pop_front();
  done(Error::kSuccess);
  SendNext();
}

absl::Status IpcChannel::Fill(const Slot& slot, const Send& send) {
  GpuDriver& driver = context_->driver();
  const GpuStream stream = send.buffer.stream;
  const GpuEvent event = slot.outbox->EventOf(slot.number);
  // The last reader's record.
  if (slot.outbox->WasUsed(slot.number) && !REPRISE_PLANTED(cuda_ipc_no_wait)) {
    absl::Status status = driver.Wait(stream, event);
    if (!status.ok()) return status;
  }
  absl::Status status = driver.Copy(slot.outbox->SlotAt(slot.number),
                                    send.data(), send.chunk_bytes(), stream);
  if (status.ok()) status = driver.Record(event, stream);
  if (status.ok()) slot.outbox->WasUsed(slot.number) = true;
  // The slot and the tensor must not be used again before the copy is done.
  if (!status.ok()) driver.Synchronize(stream).IgnoreError();
  return status;
}

void IpcChannel::OnReply() {
  if (error_) return;
  const Slot slot = std::move(offered_.front());
  offered_.pop_front();
  slot.outbox->slots().Give(slot.number);
}

// --- Receiving ---

void IpcChannel::recvImplFromLoop(uint64_t, tensorpipe::Buffer buffer,
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

void IpcChannel::ReceiveNext() {
  if (error_ || is_reading_ || receives_.empty()) return;
  is_reading_ = true;
  ReadObject<IpcDescriptor>(
      *descriptors_, callbackWrapper_([](IpcChannel& channel,
                                         const IpcDescriptor& descriptor) {
        channel.is_reading_ = false;
        channel.OnDescriptor(descriptor);
      }));
}

void IpcChannel::OnDescriptor(const IpcDescriptor& descriptor) {
  if (error_) return;
  Receive& receive = receives_.front();
  if (absl::Status status = Read(descriptor, receive); !status.ok()) {
    return setError(GpuErrorOf(status));
  }
  // While it was open, the slot was ours; from the record on, whoever uses the
  // slot again waits for us.
  if (liveness_ != nullptr && !liveness_->PeerIsOpen()) {
    return setError(GpuErrorOf("the sender closed before its tensor was read"));
  }
  replies_->write(nullptr, 0, callbackWrapper_([](IpcChannel&) {}));
  receive.position += receive.chunk_bytes();
  if (receive.position == receive.length) {
    const auto done = std::move(receive.done);
    receives_.pop_front();
    done(Error::kSuccess);
  }
  ReceiveNext();
}

absl::Status IpcChannel::Read(const IpcDescriptor& descriptor,
                              const Receive& receive) {
  GpuDriver& driver = context_->driver();
  const GpuStream stream = receive.buffer.stream;
  absl::StatusOr<const IpcInbox*> inbox =
      inboxes_.Find(descriptor, stream.device);
  if (!inbox.ok()) return inbox.status();
  const GpuEvent event = (*inbox)->EventOf(descriptor.slot);
  absl::Status status = driver.Wait(stream, event);
  if (!status.ok()) return status;
  status = driver.Copy(receive.data(), (*inbox)->SlotAt(descriptor.slot),
                       receive.chunk_bytes(), stream);
  if (!status.ok()) return status;
  // Until it is done the peer's memory stays open.
  ++num_copies_;
  absl::Status recorded = driver.Record(event, stream);
  absl::Status watched =
      watch_.After(stream, [wrapped = callbackWrapper_([](IpcChannel& channel) {
                              channel.OnRead();
                            })](const absl::Status& copied) mutable {
        wrapped(GpuErrorOf(copied));
      });
  if (!watched.ok()) --num_copies_;
  return recorded.ok() ? watched : recorded;
}

void IpcChannel::OnRead() {
  --num_copies_;
  if (error_) FinishError();
}

// --- The end ---

void IpcChannel::handleErrorImpl() {
  descriptors_->close();
  replies_->close();
  for (const Slot& slot : std::exchange(offered_, {})) {
    slot.outbox->slots().Retire(slot.number);
  }
  for (const auto& [device, outbox] : std::exchange(outboxes_, {})) {
    context_->outboxes().GiveUp(outbox);
  }
  const auto sends = std::exchange(sends_, {});
  const auto receives = std::exchange(receives_, {});
  for (const Send& send : sends) send.done(error_);
  for (const Receive& receive : receives) receive.done(error_);
  FinishError();
}

void IpcChannel::FinishError() {
  if (num_copies_ > 0) return;
  inboxes_.Clear();
  context_->unenroll(*this);
}

}  // namespace reprise
