// The sending half of the channel cuda_direct (direct_channel.h).

#include <algorithm>

#include "agent/transport/cuda/direct.h"
#include "agent/transport/cuda/direct_channel.h"
#include "agent/transport/cuda/frames.h"

namespace reprise {

using tensorpipe::Error;

void DirectChannel::OnHello(const GpuHello& hello) {
  if (error_) return;
  if (hello.version != GpuHello::kDirect) {
    return setError(
        GpuErrorOf("the peer speaks another version of cuda_direct"));
  }
  peer_ = hello;
  ReadReply();
  SendNext();
}

void DirectChannel::sendImplFromLoop(uint64_t, tensorpipe::Buffer buffer,
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

void DirectChannel::SendNext() {
  static_assert(ExportedMemory::kMaxAllocations >= DirectClaims::kNumTickets);
  while (!error_ && peer_.has_value() && !waits_for_slot_ && !sends_.empty() &&
         offered_.size() < DirectClaims::kNumTickets) {
    Send& send = sends_.front();
    absl::StatusOr<GpuAllocation> allocation =
        context_->driver().FindAllocation(send.buffer.ptr);
    if (!allocation.ok()) return setError(GpuErrorOf(allocation.status()));
    if (allocation->may_be_exported) {
      OfferWhole(*allocation);
    } else {
      OfferStaged();
    }
  }
}

void DirectChannel::OfferWhole(const GpuAllocation& allocation) {
  Send& send = sends_.front();
  Source source;
  source.allocation = allocation;
  source.offset = static_cast<size_t>(static_cast<char*>(send.buffer.ptr) -
                                      static_cast<char*>(allocation.base));
  source.length = send.length;
  if (source.offset > allocation.num_bytes ||
      source.length > allocation.num_bytes - source.offset) {
    return setError(
        GpuErrorOf("a tensor to send does not lie in one allocation"));
  }
  const absl::StatusOr<uint32_t> ticket = Offer(source, send.buffer.stream);
  // The driver may refuse what it said that it would do.
  if (absl::IsUnimplemented(ticket.status())) return OfferStaged();
  if (!ticket.ok()) return setError(GpuErrorOf(ticket.status()));
  offered_[*ticket].ended.push_back(std::move(send));
  sends_.pop_front();
}

void DirectChannel::OfferStaged() {
  absl::StatusOr<DirectStaging::Area*> area =
      context_->staging().Of(sends_.front().buffer.stream.device);
  if (!area.ok()) return setError(GpuErrorOf(area.status()));
  waits_for_slot_ = true;
  (*area)->slots.Take([self = shared_from_this(), area = *area](int slot) {
    self->OnSlot(area, slot);
  });
}

void DirectChannel::OnSlot(DirectStaging::Area* area, int slot) {
  waits_for_slot_ = false;
  if (error_) return area->slots.Give(slot);
  absl::Status status = FillSlot(*area, slot);
  if (!status.ok()) {
    area->slots.Give(slot);
    return setError(GpuErrorOf(status));
  }
  Send& send = sends_.front();
  Source source;
  source.allocation = area->allocation;
  source.offset = slot * kCudaDirectSlotBytes;
  source.length = std::min(send.length - send.position, kCudaDirectSlotBytes);
  const absl::StatusOr<uint32_t> ticket = Offer(source, send.buffer.stream);
  if (!ticket.ok()) {
    area->slots.Give(slot);
    return setError(GpuErrorOf(ticket.status()));
  }
  Offered& offered = offered_[*ticket];
  offered.area = area;
  offered.slot = slot;
  send.position += source.length;
  if (send.position == send.length) {
    offered.ended.push_back(std::move(send));
    sends_.pop_front();
  }
  SendNext();
}

absl::Status DirectChannel::FillSlot(DirectStaging::Area& area, int slot) {
  GpuDriver& driver = context_->driver();
  const Send& send = sends_.front();
  const GpuStream stream = send.buffer.stream;
  const GpuEvent filled = area.filled[slot];
  absl::Status status;
  if (area.was_filled[slot]) status = driver.Wait(stream, filled);
  if (!status.ok()) return status;
  status = driver.Copy(
      static_cast<char*>(area.allocation.base) + slot * kCudaDirectSlotBytes,
      static_cast<const char*>(send.buffer.ptr) + send.position,
      std::min(send.length - send.position, kCudaDirectSlotBytes), stream);
  if (status.ok()) status = driver.Record(filled, stream);
  if (status.ok()) area.was_filled[slot] = true;
  if (!status.ok()) driver.Synchronize(stream).IgnoreError();
  return status;
}

absl::StatusOr<uint32_t> DirectChannel::Offer(const Source& source,
                                              GpuStream stream) {
  GpuDriver& driver = context_->driver();
  if (claims_ == nullptr) {
    absl::StatusOr<std::unique_ptr<DirectClaims>> claims =
        DirectClaims::Create(*context_->environment().shared_memory);
    if (!claims.ok()) return claims.status();
    claims_ = *std::move(claims);
  }
  const absl::StatusOr<uint32_t> index = memory_.IndexOf(source.allocation);
  if (!index.ok()) return index;
  const absl::StatusOr<uint32_t> ticket = events_.Take(stream.device);
  if (!ticket.ok()) return ticket;
  const ExportedEvents::Entry& event = events_.at(*ticket);
  if (absl::Status status = driver.Record(event.event, stream); !status.ok()) {
    events_.Give(*ticket);
    return status;
  }
  ExportedMemory::Entry& memory = memory_.at(*index);
  ++memory.num_offers;
  DirectOffer offer;
  offer.allocation = source.allocation.id;
  offer.allocation_index = *index;
  offer.ticket = *ticket;
  offer.offset = source.offset;
  offer.length = source.length;
  SetText(offer.memory_handle, memory.handle);
  SetText(offer.event_handle, event.handle);
  SetText(offer.claims, claims_->name());
  offered_[*ticket].memory = *index;
  claims_->Offer(*ticket);
  WriteStruct(*offers_, offer, callbackWrapper_([](DirectChannel&) {}));
  return ticket;
}

void DirectChannel::ReadReply() {
  ReadStruct<DirectReply>(
      *replies_,
      callbackWrapper_([](DirectChannel& channel, const DirectReply& reply) {
        channel.OnReply(reply);
      }));
}

void DirectChannel::OnReply(const DirectReply& reply) {
  if (error_) return;
  if (!offered_.contains(reply.ticket)) {
    return setError(GpuErrorOf("the peer replies to what it was not offered"));
  }
  End(reply.ticket);
  if (error_) return;
  ReadReply();
  SendNext();
}

void DirectChannel::End(uint32_t ticket) {
  const auto it = offered_.find(ticket);
  Offered offered = std::move(it->second);
  offered_.erase(it);
  events_.Give(ticket);
  --memory_.at(offered.memory).num_offers;
  if (offered.area != nullptr) offered.area->slots.Give(offered.slot);
  for (const Send& send : offered.ended) send.done(error_);
}

void DirectChannel::FailSends() {
  const auto sends = std::exchange(sends_, {});
  std::vector<uint32_t> held;
  std::vector<uint32_t> revoked;
  for (const auto& [ticket, offered] : offered_) {
    (claims_->Revoke(ticket) ? revoked : held).push_back(ticket);
  }
  for (const uint32_t ticket : revoked) End(ticket);
  for (const Send& send : sends) send.done(error_);
  if (!held.empty()) Hold(std::move(held));
}

void DirectChannel::Hold(std::vector<uint32_t> tickets) {
  const GpuChannelEnvironment& environment = context_->environment();
  std::function<void(const Error&)> end =
      callbackWrapper_([tickets](DirectChannel& channel) {
        for (const uint32_t ticket : tickets) channel.End(ticket);
      });
  const absl::Time deadline =
      environment.runtime->Now() + kCudaDirectLongestHold;
  const bool is_held = context_->callbacks().Poll(
      [&environment, claims = claims_, tickets, deadline, end,
       peer = TextOf(peer_->process)] {
        const bool is_over = std::all_of(
            tickets.begin(), tickets.end(),
            [&](uint32_t ticket) { return claims->Revoke(ticket); });
        if (!is_over && environment.runtime->Now() < deadline &&
            environment.shared_memory->IsAlive(peer)) {
          return false;
        }
        end(Error::kSuccess);
        return true;
      });
  if (!is_held) end(Error::kSuccess);
}

}  // namespace reprise
