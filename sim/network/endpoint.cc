#include "sim/network/endpoint.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/transport/uv/frame_reader.h"
#include "sim/network/errors.h"
#include "sim/world/race_annotations.h"

namespace reprise {
namespace {

using tensorpipe::Error;

constexpr int64_t kFrameHeaderBytes = 8;  // as on uv

int64_t BytesOf(const std::vector<uint8_t>& frame) {
  return static_cast<int64_t>(frame.size()) + kFrameHeaderBytes;
}

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
  read.is_late = is_over();
  reads_.push_back(std::move(read));
  if (error_ || ending_ != Ending::kNone || !arrived_.empty() ||
      partial_ > front_taken_) {
    PostProgress();
  }
}

void Endpoint::Write(const void* source, size_t length,
                     Connection::write_callback_fn done) {
  Write({Frame(length), length > 0 ? source : nullptr}, /*is_object=*/false,
        std::move(done));
}

void Endpoint::WriteObject(Frame frame, Connection::write_callback_fn done) {
  Write({std::move(frame), nullptr}, /*is_object=*/true, std::move(done));
}

void Endpoint::Write(Content content, bool is_object,
                     Connection::write_callback_fn done) {
  AnnounceRelease(this);
  if (!error_ && ending_ == Ending::kReset) Fail(UvErrorOf(UV_ECONNRESET));
  if (error_) {
    failed_.push_back(std::move(done));
    PostProgress();
  } else if (!established_) {
    writes_.push_back({std::move(content), is_object, std::move(done)});
  } else {
    Send(std::move(content), is_object, std::move(done));
    PostProgress();
  }
}

void Endpoint::Establish(const std::shared_ptr<Endpoint>& peer,
                         int64_t first_arrival_ns) {
  peer_ = peer;
  last_arrival_ns_ = std::max(last_arrival_ns_, first_arrival_ns);
  if (established_) return;
  established_ = true;
  if (error_) {
    // Closed while it was being made.
    CloseSocket(EndingNow());
    return;
  }
  while (!writes_.empty() && !error_) {
    PendingWrite write = std::move(writes_.front());
    writes_.pop_front();
    Send(std::move(write.content), write.is_object, std::move(write.done));
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

void Endpoint::Send(Content content, bool is_object,
                    Connection::write_callback_fn done) {
  World& world = network_.world_;
  const EventKind phase = PhaseOf(is_object);
  if (is_object) ++objects_sent_;
  const int64_t bytes = BytesOf(content.frame);
  const uint64_t number = frames_sent_++;
  // It is there before the event, which may end everything, but not in the
  // send buffer.
  unsent_.push_back({.content = {},
                     .bytes_left = bytes,
                     .end = INT64_MAX,
                     .is_cut_off = false,
                     .latency_ns = 0,
                     .done = std::move(done)});
  UnsentFrame& unsent = unsent_.back();
  // `Record` may crash this very node. Then it does not return, unless this
  // runs on no fiber.
  world.Record(&node_, {.kind = phase,
                        .id = connection_,
                        .frame = static_cast<int64_t>(number),
                        .num_bytes = bytes});
  if (error_ || !node_.alive) return;
  BreakKind kind = BreakKind::kReset;
  if (network_.links_.TakeCut(node_.rank, remote_rank_,
                              static_cast<size_t>(bytes), kind)) {
    Break(kind);
    return;
  }
  if (network_.links_.SpoilsNext(node_.rank, remote_rank_)) {
    content.Take();
    network_.links_.MaySpoil(node_.rank, remote_rank_, content.frame);
  }
  unsent.bytes_left = BytesOf(content.frame);
  stream_bytes_ += unsent.bytes_left;
  unsent.end = stream_bytes_;
  unsent.content = std::move(content);
  unsent.latency_ns = network_.DrawLatency(*this);
  NoteWritten();
  Pump(/*is_my_turn=*/false);
}

void Endpoint::Close() {
  if (closed_) return;
  closed_ = true;
  AnnounceRelease(this);
  network_.endpoints_.erase({connection_, is_server_});
  Fail(ConnectionClosed());
}

void Endpoint::Fail(const Error& error) {
  if (error_ || !node_.alive) return;
  error_ = error;
  FailWrites();
  if (established_) CloseSocket(EndingNow());
  arrived_.clear();
  PostProgress();
}

void Endpoint::FailWrites() {
  for (UnsentFrame& unsent : unsent_) {
    if (unsent.done == nullptr) continue;
    failed_.push_back(std::exchange(unsent.done, nullptr));
  }
  for (PendingWrite& write : writes_) failed_.push_back(std::move(write.done));
  writes_.clear();
}

void Endpoint::Break(BreakKind kind) {
  World& world = network_.world_;
  world.Record(&node_, {.kind = EventKind::kBreak,
                        .id = connection_,
                        .break_kind = static_cast<int64_t>(kind)});
  if (kind == BreakKind::kEndOfStream) {
    FailWrites();
    CloseSocket(Ending::kEndOfStream);
    Fail(UvErrorOf(UV_EOF));
    return;
  }
  const std::shared_ptr<Endpoint> peer = peer_.lock();
  DropSocket();
  Fail(UvErrorOf(UV_ECONNRESET));
  if (peer == nullptr) return;
  const int64_t held_until_ns =
      network_.links_.HeldUntil(node_.rank, remote_rank_);
  if (held_until_ns == Scheduler::kNever) return;
  const int64_t arrival_ns = world.now_ns() + network_.DrawLatency(*this);
  world.At(std::max(arrival_ns, held_until_ns), NextOrder(), [peer] {
    peer->DropSocket();
    peer->Fail(UvErrorOf(UV_ECONNRESET));
  });
}

Site& Endpoint::Visit(const Place& place) {
  World& world = network_.world_;
  Fiber* const fiber = world.scheduler().current();
  Site& site = fiber != nullptr
                   ? fiber->sites.At(place)
                   : *world.decisions().SiteAt(
                         node_.label, absl::StrCat(place.label, ":", name_));
  site.Visit();
  return site;
}

absl::Duration Endpoint::SinceArrival() const {
  const int64_t now_ns = network_.world_.now_ns();
  for (const FlyingPiece& flying : flying_) {
    if (!flying.is_lost && flying.begin_ns < now_ns)
      return absl::ZeroDuration();
  }
  return last_received_ns_ < 0 ? absl::InfiniteDuration()
                               : absl::Nanoseconds(now_ns - last_received_ns_);
}

void Endpoint::PostProgress() {
  if (!node_.alive) return;
  if (calls_inline_ && error_) return Progress();
  if (progress_posted_) return;
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
  while (CompleteWrite() || CompleteRead()) {
  }
}

// Writes that fail do so after the reads, as on uv.
bool Endpoint::CompleteWrite() {
  const bool is_written = !written_.empty();
  if (!is_written && (failed_.empty() || !reads_.empty())) return false;
  std::list<Connection::write_callback_fn>& list =
      is_written ? written_ : failed_;
  const Connection::write_callback_fn done = std::move(list.front());
  list.pop_front();
  const OutOfSimulator out;
  done(is_written ? Error::kSuccess : error_);
  return true;
}

bool Endpoint::CompleteRead() {
  if (reads_.empty()) return false;
  if (!error_ && arrived_.empty()) {
    if (partial_ > front_taken_) {
      TakeBytes(partial_ - front_taken_);
      front_taken_ = partial_;
    }
    if (ending_ == Ending::kNone) return false;
    Fail(UvErrorOf(ending_ == Ending::kReset ? UV_ECONNRESET : UV_EOF));
  }
  const PendingRead read = std::move(reads_.front());
  reads_.pop_front();
  if (error_) {
    const OutOfSimulator out;
    read.done(error_, read.is_late ? read.into : nullptr,
              read.is_late ? read.length : 0);
    return true;
  }
  const Frame frame = std::move(arrived_.front());
  arrived_.pop_front();
  TakeBytes(BytesOf(frame) - front_taken_);
  front_taken_ = 0;
  BeginSection(read.is_sized);
  if (read.is_sized ? frame.size() != read.length
                    : frame.size() > kLongestObject) {
    Fail(UvErrorOf(UV_EPROTO));
    const OutOfSimulator out;
    read.done(error_, nullptr, 0);
    return true;
  }
  const void* bytes = frame.data();
  if (read.is_sized) {
    // An empty frame may have no memory at all.
    if (!frame.empty()) std::memcpy(read.into, frame.data(), frame.size());
    bytes = read.into;
  }
  const OutOfSimulator out;
  read.done(Error::kSuccess, bytes, frame.size());
  return true;
}

}  // namespace reprise
