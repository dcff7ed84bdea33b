// The half of an Endpoint that the kernel has in a real machine: its stream of
// bytes goes on when the connection was closed, and when the process has died.

#include <algorithm>
#include <utility>

#include "sim/network/endpoint.h"
#include "sim/network/errors.h"

namespace reprise {

void Endpoint::Pump(bool is_my_turn) {
  if (IsWithoutPower()) return;
  const std::shared_ptr<Endpoint> peer = peer_.lock();
  while (!unsent_.empty() && !is_stuck_) {
    if (waits_for_wire_) return;
    if (peer != nullptr &&
        peer->untaken_ >= network_.options_.receive_window_bytes) {
      waits_for_room_ = true;
      return;
    }
    if (!is_my_turn && !network_.links_.MayTransmit(*this)) {
      waits_for_wire_ = true;
      return;
    }
    is_my_turn = false;
    TransmitPiece();
  }
  if (ending_to_send_ == Ending::kNone) return;
  if (unsent_.empty()) {
    SendEnding(std::exchange(ending_to_send_, Ending::kNone));
  }
  network_.lingering_.erase(KeyOf(*this));
}

void Endpoint::TakeTurn() {
  waits_for_wire_ = false;
  Pump(/*is_my_turn=*/true);
}

void Endpoint::TransmitPiece() {
  World& world = network_.world_;
  Links& links = network_.links_;
  UnsentFrame& unsent = unsent_.front();
  const int64_t bytes =
      std::min(unsent.bytes_left, links.PieceBytes(node_.rank, remote_rank_));
  const int64_t latency_ns = unsent.latency_ns;
  unsent.bytes_left -= bytes;
  sent_bytes_ += bytes;
  std::optional<Frame> frame;
  if (unsent.bytes_left == 0 && !unsent.is_cut_off) {
    // Its write may not be done yet, where the send buffer is small.
    if (unsent.done != nullptr) unsent.content.Take();
    frame = std::move(unsent.content.frame);
  }
  NoteWritten();
  if (unsent.bytes_left == 0) unsent_.pop_front();
  int64_t arrival_ns = links.Transmit(*this, bytes) + latency_ns;
  const int64_t held_until_ns = links.HeldUntil(node_.rank, remote_rank_);
  if (links.IsTooLate(held_until_ns)) return BecomeStuck();
  arrival_ns += links.ExtraLatency(node_.rank, remote_rank_);
  arrival_ns = std::max({arrival_ns, last_arrival_ns_, held_until_ns});
  last_arrival_ns_ = arrival_ns;
  std::shared_ptr<Endpoint> peer = peer_.lock();
  if (peer == nullptr) {
    if (network_.IsMachineUp(remote_rank_)) return AnswerWithReset();
    return BecomeStuck();
  }
  if (links.IsSilent(remote_rank_, node_.rank)) {
    // The hold strikes: it takes the acknowledgements.
    links.HeldUntil(remote_rank_, node_.rank);
    BecomeUnacknowledged();
  }
  // What was held back arrives at once when the hold ends.
  int64_t begin_ns = arrival_ns;
  if (held_until_ns == 0) {
    begin_ns -= links.TransferNs(node_.rank, remote_rank_, bytes);
  }
  peer->untaken_ += bytes;
  peer->flying_.push_back(
      {bytes, std::move(frame), std::max(begin_ns, world.now_ns())});
  world.At(arrival_ns, NextOrder(),
           [peer = std::move(peer)] { peer->Arrive(); });
}

void Endpoint::NoteWritten() {
  const int64_t room_ends = sent_bytes_ + network_.options_.send_buffer_bytes;
  for (UnsentFrame& unsent : unsent_) {
    if (unsent.end > room_ends) return;
    if (unsent.done == nullptr) continue;
    unsent.content.Take();
    written_.push_back(std::exchange(unsent.done, nullptr));
    PostProgress();
  }
}

void Endpoint::Arrive() {
  FlyingPiece piece = std::move(flying_.front());
  flying_.pop_front();
  if (piece.is_lost) return;
  last_received_ns_ = network_.world_.now_ns();
  const std::shared_ptr<Endpoint> sender = peer_.lock();
  if (socket_closed_) {
    if (sender == nullptr) return;
    if (network_.IsMachineUp(node_.rank)) {
      sender->AnswerWithReset();
    } else {
      sender->BecomeStuck();
    }
    return;
  }
  partial_ += piece.bytes;
  if (piece.frame.has_value()) {
    network_.world_.Record(
        &node_, {.kind = EventKind::kDeliver,
                 .id = connection_,
                 .num_bytes = static_cast<int64_t>(piece.frame->size())});
    // A fault may have struck at this event.
    if (socket_closed_) return;
    partial_ = 0;
    // The bytes of this frame that were taken belong to the first that is here.
    arrived_.push_back(*std::move(piece.frame));
  }
  if (!reads_.empty()) PostProgress();
}

void Endpoint::TakeBytes(int64_t bytes) {
  untaken_ -= bytes;
  const std::shared_ptr<Endpoint> sender = peer_.lock();
  if (sender == nullptr || !sender->waits_for_room_) return;
  sender->waits_for_room_ = false;
  World& world = network_.world_;
  Links& links = network_.links_;
  const int64_t held_until_ns = links.HeldUntil(node_.rank, remote_rank_);
  if (links.IsTooLate(held_until_ns)) return sender->BecomeStuck();
  const int64_t arrival_ns =
      world.now_ns() +
      links.OptionsOf(node_.rank, remote_rank_).latency_min_ns +
      links.ExtraLatency(node_.rank, remote_rank_);
  world.At(std::max(arrival_ns, held_until_ns), NextOrder(),
           [sender] { sender->Pump(/*is_my_turn=*/false); });
}

bool Endpoint::HasUnreadBytes() const {
  return !arrived_.empty() || partial_ > front_taken_;
}

void Endpoint::CloseSocket(Ending ending) {
  if (socket_closed_) return;
  socket_closed_ = true;
  if (ending_ == Ending::kReset || is_resetting_ || is_stuck_) {
    unsent_.clear();
    return;
  }
  const int64_t room_ends =
      ending == Ending::kReset
          ? sent_bytes_
          : sent_bytes_ + network_.options_.send_buffer_bytes;
  while (!unsent_.empty() && unsent_.back().end > room_ends) {
    UnsentFrame& last = unsent_.back();
    const int64_t begin = last.end - last.bytes_left;
    if (last.end != INT64_MAX && begin < room_ends) {
      last.bytes_left = room_ends - begin;
      last.end = room_ends;
      last.is_cut_off = true;
      break;
    }
    unsent_.pop_back();
  }
  ending_latency_ns_ = network_.DrawLatency(*this);
  ending_to_send_ = ending;
  network_.lingering_.emplace(KeyOf(*this), shared_from_this());
  Pump(/*is_my_turn=*/false);
}

void Endpoint::DropSocket() {
  DropUnsent();
  // Their events are still to come.
  for (FlyingPiece& piece : flying_) {
    piece.is_lost = true;
    piece.frame = std::nullopt;
  }
  socket_closed_ = true;
}

void Endpoint::DropUnsent() {
  FailWrites();
  unsent_.clear();
  ending_to_send_ = Ending::kNone;
  waits_for_room_ = false;
  network_.lingering_.erase(KeyOf(*this));
}

void Endpoint::SendEnding(Ending ending) {
  std::shared_ptr<Endpoint> peer = peer_.lock();
  if (peer == nullptr) return;
  World& world = network_.world_;
  Links& links = network_.links_;
  int64_t arrival_ns = world.now_ns() + ending_latency_ns_;
  const int64_t held_until_ns = links.HeldUntil(node_.rank, remote_rank_);
  if (links.IsTooLate(held_until_ns)) return;
  arrival_ns += links.ExtraLatency(node_.rank, remote_rank_);
  arrival_ns = std::max({arrival_ns, last_arrival_ns_, held_until_ns});
  last_arrival_ns_ = arrival_ns;
  world.At(arrival_ns, NextOrder(),
           [peer = std::move(peer), ending] { peer->EndArrives(ending); });
}

void Endpoint::EndArrives(Ending ending) {
  // A closed end has nothing more to send, either.
  if (ending == Ending::kReset) DropUnsent();
  if (!node_.alive || error_ || ending_ == Ending::kReset) return;
  if (ending == Ending::kReset) {
    // After the end of the stream it is what a write finds.
    const int code = ending_ == Ending::kEndOfStream ? UV_EPIPE : UV_ECONNRESET;
    ending_ = ending;
    // What has come can still be read, unless a write has found out.
    if (!failed_.empty() || !HasUnreadBytes()) {
      Fail(UvErrorOf(code));
      return;
    }
  }
  ending_ = ending;
  if (!reads_.empty()) PostProgress();
}

void Endpoint::AnswerWithReset() {
  if (is_resetting_) return;
  is_resetting_ = true;
  World& world = network_.world_;
  Links& links = network_.links_;
  const int64_t held_until_ns = links.HeldUntil(remote_rank_, node_.rank);
  if (links.IsTooLate(held_until_ns)) {
    is_resetting_ = false;
    return BecomeStuck();
  }
  const int64_t arrival_ns =
      world.now_ns() + links.OptionsOf(remote_rank_, node_.rank).latency_min_ns;
  world.At(std::max(arrival_ns, held_until_ns), NextOrder(),
           [self = shared_from_this()] { self->EndArrives(Ending::kReset); });
}

void Endpoint::BecomeStuck() {
  is_stuck_ = true;
  // Nobody waits for what a closed end sends.
  if (socket_closed_) DropUnsent();
  BecomeUnacknowledged();
}

void Endpoint::BecomeUnacknowledged() {
  if (unacknowledged_since_ns_ >= 0 || error_) return;
  World& world = network_.world_;
  unacknowledged_since_ns_ = world.now_ns();
  world.AtIfRunning(unacknowledged_since_ns_ + kRetransmissionTimeoutNs,
                    NextOrder(), [self = shared_from_this()] {
                      if (self->error_) return;
                      self->DropSocket();
                      self->Fail(UvErrorOf(UV_ETIMEDOUT));
                    });
}

void Endpoint::PeerIsUp() {
  if (!is_stuck_ || error_ || is_resetting_) return;
  World& world = network_.world_;
  // Each retransmission comes twice as long after the last one.
  int64_t wait_ns = kFirstRetransmissionNs;
  int64_t next_ns = unacknowledged_since_ns_ + wait_ns;
  while (next_ns < world.now_ns()) {
    wait_ns = std::min(2 * wait_ns, kLongestRetransmissionNs);
    next_ns += wait_ns;
  }
  world.At(next_ns, NextOrder(), [self = shared_from_this()] {
    if (!self->error_) self->AnswerWithReset();
  });
}

void Endpoint::Die() {
  // The callbacks are pieces of the abandoned agent: they are kept.
  FailWrites();
  switch (node_.death) {
    case NodeDeath::kReset:
      Break(BreakKind::kReset);
      break;
    case NodeDeath::kKilled:
      if (established_) CloseSocket(EndingNow());
      break;
    case NodeDeath::kPowerCut:
      DropUnsent();
      // Nobody answers who asks whether there is room.
      if (const auto peer = peer_.lock(); peer && peer->waits_for_room_) {
        peer->BecomeStuck();
      }
      break;
  }
  socket_closed_ = true;
}

}  // namespace reprise
