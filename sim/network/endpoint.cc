#include "sim/network/endpoint.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/world/race_annotations.h"
#include "tensorpipe/common/error_macros.h"
#include "tensorpipe/transport/error.h"

namespace reprise {
namespace {

using tensorpipe::Error;

Error ErrorOf(BreakKind kind) {
  return kind == BreakKind::kReset
             ? TP_CREATE_ERROR(tensorpipe::SystemError, "read", ECONNRESET)
             : TP_CREATE_ERROR(tensorpipe::EOFError);
}

Error ClosedError() {
  return TP_CREATE_ERROR(tensorpipe::transport::ConnectionClosedError);
}

Error ShortReadErrorOf(size_t expected, size_t actual) {
  return TP_CREATE_ERROR(tensorpipe::ShortReadError,
                         static_cast<ssize_t>(expected),
                         static_cast<ssize_t>(actual));
}

constexpr size_t kFrameHeaderBytes = 8;  // as on uv

}  // namespace

Endpoint::Endpoint(Network& network, Node& node, uint64_t connection,
                   bool is_server, int32_t remote_rank)
    : network_(network),
      node_(node),
      connection_(connection),
      is_server_(is_server),
      remote_rank_(remote_rank),
      name_(absl::StrCat("w", connection >> 32, ":", connection & 0xffffffffu,
                         is_server ? ".server" : ".client")) {
  network_.endpoints_.emplace(std::pair(connection_, is_server_), this);
}

Endpoint::~Endpoint() {
  if (!closed_) network_.endpoints_.erase({connection_, is_server_});
}

void Endpoint::Read(Connection::read_callback_fn done) {
  AddRead({/*is_sized=*/false, nullptr, 0, std::move(done)});
}

void Endpoint::Read(void* into, size_t length,
                    Connection::read_callback_fn done) {
  AddRead({/*is_sized=*/true, into, length, std::move(done)});
}

void Endpoint::AddRead(PendingRead read) {
  AnnounceRelease(this);
  reads_.push_back(std::move(read));
  if (error_ || end_of_stream_ || !arrived_.empty()) PostProgress();
}

void Endpoint::Write(Frame frame, bool is_object,
                     Connection::write_callback_fn done) {
  AnnounceRelease(this);
  if (!established_ && !error_) {
    writes_.push_back({std::move(frame), is_object, std::move(done)});
    return;
  }
  if (!error_) Send(std::move(frame), is_object);
  // The write is over when the frame has been taken over or has failed, and not
  // only when it has arrived.
  written_.emplace_back(error_, std::move(done));
  PostProgress();
}

void Endpoint::Establish(const std::shared_ptr<Endpoint>& peer) {
  if (error_) {
    // Closed while it was being made.
    peer_ = peer;
    SendEndOfStream();
    return;
  }
  peer_ = peer;
  established_ = true;
  while (!writes_.empty() && !error_) {
    PendingWrite write = std::move(writes_.front());
    writes_.pop_front();
    Send(std::move(write.frame), write.is_object);
    written_.emplace_back(error_, std::move(write.done));
  }
  PostProgress();
}

EventKind Endpoint::PhaseOf(bool is_object) {
  // A client opens the connection of a pipe with two objects, its hello and its
  // brochure, and that of a channel with one object. The server answers on the
  // connection of a pipe with one object.
  const int opening = is_server_ ? 1 : 2;
  if (is_object) {
    return objects_sent_ < opening ? EventKind::kSendHello
                                   : EventKind::kSendDescriptor;
  }
  return objects_sent_ >= opening ? EventKind::kSendPayload
                                  : EventKind::kSendTensor;
}

void Endpoint::Send(Frame frame, bool is_object) {
  World& world = network_.world_;
  const EventKind phase = PhaseOf(is_object);
  if (is_object) ++objects_sent_;
  const size_t bytes = frame.size() + kFrameHeaderBytes;
  const uint64_t number = frames_sent_++;
  // `Record` may crash this very node. Then it does not return, unless this
  // runs on no fiber.
  world.Record(&node_, {.kind = phase,
                        .id = connection_,
                        .frame = static_cast<int64_t>(number),
                        .num_bytes = static_cast<int64_t>(bytes)});
  if (error_ || !node_.alive) return;
  BreakKind kind = BreakKind::kReset;
  if (network_.TakeCut(node_.rank, remote_rank_, bytes, kind)) {
    Break(kind);
    return;
  }
  std::shared_ptr<Endpoint> peer = peer_.lock();
  if (peer == nullptr || peer->closed_) return;
  int64_t arrival_ns = world.now_ns() + network_.DrawLatency(*this, bytes);
  const int64_t held_until_ns = network_.HeldUntil(node_.rank, remote_rank_);
  if (held_until_ns == Scheduler::kNever) return;
  arrival_ns += network_.ExtraLatency(node_.rank, remote_rank_);
  arrival_ns = std::max({arrival_ns, last_arrival_ns_, held_until_ns});
  last_arrival_ns_ = arrival_ns;
  // What was held back arrives at once when the hold ends.
  int64_t begin_ns = arrival_ns;
  if (held_until_ns == 0) begin_ns -= network_.TransferNs(bytes);
  peer->flying_.push_back(
      {std::move(frame), std::max(begin_ns, world.now_ns())});
  world.At(arrival_ns, {connection_ * 2 + (is_server_ ? 1 : 0), events_sent_++},
           [peer = std::move(peer)] { peer->Deliver(); });
}

void Endpoint::Deliver() {
  if (flying_.empty()) return;  // It was lost in a reset.
  Frame frame = std::move(flying_.front().frame);
  flying_.pop_front();
  last_received_ns_ = network_.world_.now_ns();
  if (!node_.alive || error_) return;
  network_.world_.Record(&node_,
                         {.kind = EventKind::kDeliver,
                          .id = connection_,
                          .num_bytes = static_cast<int64_t>(frame.size())});
  arrived_.push_back(std::move(frame));
  if (!reads_.empty()) PostProgress();
}

absl::Duration Endpoint::SinceArrival() const {
  const int64_t now_ns = network_.world_.now_ns();
  for (const FlyingFrame& flying : flying_) {
    if (flying.begin_ns < now_ns) return absl::ZeroDuration();
  }
  return last_received_ns_ < 0 ? absl::InfiniteDuration()
                               : absl::Nanoseconds(now_ns - last_received_ns_);
}

void Endpoint::SendEndOfStream() {
  std::shared_ptr<Endpoint> peer = peer_.lock();
  if (peer == nullptr || peer->closed_) return;
  World& world = network_.world_;
  int64_t arrival_ns = world.now_ns() + network_.DrawLatency(*this, 0);
  const int64_t held_until_ns = network_.HeldUntil(node_.rank, remote_rank_);
  if (held_until_ns == Scheduler::kNever) return;
  arrival_ns += network_.ExtraLatency(node_.rank, remote_rank_);
  arrival_ns = std::max({arrival_ns, last_arrival_ns_, held_until_ns});
  last_arrival_ns_ = arrival_ns;
  world.At(arrival_ns, {connection_ * 2 + (is_server_ ? 1 : 0), events_sent_++},
           [peer = std::move(peer)] {
             if (!peer->node_.alive || peer->error_) return;
             peer->end_of_stream_ = true;
             if (!peer->reads_.empty()) peer->PostProgress();
           });
}

void Endpoint::Close() {
  if (closed_) return;
  closed_ = true;
  AnnounceRelease(this);
  network_.endpoints_.erase({connection_, is_server_});
  if (!error_) {
    error_ = ClosedError();
    if (established_) SendEndOfStream();
  }
  while (!writes_.empty()) {
    written_.emplace_back(error_, std::move(writes_.front().done));
    writes_.pop_front();
  }
  PostProgress();
}

void Endpoint::Fail(const Error& error) {
  if (error_ || !node_.alive) return;
  error_ = error;
  flying_.clear();
  arrived_.clear();
  while (!writes_.empty()) {
    written_.emplace_back(error_, std::move(writes_.front().done));
    writes_.pop_front();
  }
  PostProgress();
}

void Endpoint::Break(BreakKind kind) {
  World& world = network_.world_;
  world.Record(&node_, {.kind = EventKind::kBreak,
                        .id = connection_,
                        .break_kind = static_cast<int64_t>(kind)});
  std::shared_ptr<Endpoint> peer = peer_.lock();
  if (kind == BreakKind::kEndOfStream) {
    SendEndOfStream();
    Fail(ErrorOf(kind));
    return;
  }
  Fail(ErrorOf(kind));
  if (peer == nullptr) return;
  world.At(world.now_ns() + network_.DrawLatency(*this, 0),
           {connection_ * 2 + (is_server_ ? 1 : 0), events_sent_++},
           [peer = std::move(peer), kind] { peer->Fail(ErrorOf(kind)); });
}

Site& Endpoint::VisitSend() {
  World& world = network_.world_;
  Fiber* const fiber = world.scheduler().current();
  Site& site = fiber != nullptr
                   ? fiber->sites.At(network_.send_)
                   : *world.decisions().SiteAt(node_.label,
                                               absl::StrCat("send:", name_));
  site.Visit();
  return site;
}

void Endpoint::PostProgress() {
  if (progress_posted_ || !node_.alive) return;
  progress_posted_ = true;
  network_.world_.PostIo(node_,
                         [self = shared_from_this()] { self->Progress(); });
}

void Endpoint::BeginSection(bool is_payload) {
  if (!is_payload) {
    ++objects_read_;
    frames_of_object_ = 0;
  }
  ++frames_of_object_;
  network_.world_.scheduler().current()->sites.BeginRead(name_, objects_read_,
                                                         frames_of_object_);
}

void Endpoint::Progress() {
  progress_posted_ = false;
  // Those who called this end, and those who called the other one.
  AnnounceAcquire(this);
  if (const std::shared_ptr<Endpoint> peer = peer_.lock()) {
    AnnounceAcquire(peer.get());
  }
  for (;;) {
    if (!written_.empty()) {
      auto [error, done] = std::move(written_.front());
      written_.pop_front();
      const OutOfSimulator out;
      done(error);
      continue;
    }
    if (reads_.empty()) return;
    if (error_ || (arrived_.empty() && end_of_stream_)) {
      const Error error = error_ ? error_ : ErrorOf(BreakKind::kEndOfStream);
      PendingRead read = std::move(reads_.front());
      reads_.pop_front();
      const OutOfSimulator out;
      read.done(error, nullptr, 0);
      continue;
    }
    if (arrived_.empty()) return;
    const Frame frame = std::move(arrived_.front());
    arrived_.pop_front();
    PendingRead read = std::move(reads_.front());
    reads_.pop_front();
    BeginSection(read.is_sized);
    if (!read.is_sized) {
      const OutOfSimulator out;
      read.done(Error::kSuccess, frame.data(), frame.size());
    } else if (frame.size() != read.length) {
      Fail(ShortReadErrorOf(read.length, frame.size()));
      const OutOfSimulator out;
      read.done(error_, nullptr, 0);
    } else {
      // An empty frame may have no memory at all.
      if (!frame.empty()) std::memcpy(read.into, frame.data(), frame.size());
      const OutOfSimulator out;
      read.done(Error::kSuccess, read.into, frame.size());
    }
  }
}

}  // namespace reprise
