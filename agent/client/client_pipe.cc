#include "agent/client/client_pipe.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/pipe/channel_check.h"
#include "agent/pipe/keepalive.h"
#include "agent/planted.h"
#include "agent/probe.h"
#include "glog/logging.h"

namespace reprise {

ClientPipe::ClientPipe(Runtime& runtime, Timer& timer, Owner& owner,
                       MemberPtr peer, Activity& activity,
                       PeerCounters& counters, uint64_t generation,
                       const Options& options)
    : runtime_(runtime),
      timer_(timer),
      owner_(owner),
      peer_(std::move(peer)),
      activity_(activity),
      counters_(counters),
      generation_(generation),
      options_(options),
      mutex_(runtime, "ClientPipe") {}

void ClientPipe::ExpectWithin(absl::Time deadline, absl::Duration timeout) {
  connect_deadline_ = deadline;
  MutexLock lock(mutex_);
  if (state_ == State::kFailed || established_) return;
  expectation_ =
      timer_.Schedule(deadline, [self = shared_from_this(), timeout] {
        self->OnConnectTimeout(timeout);
      });
}

void ClientPipe::OnConnectTimeout(absl::Duration timeout) {
  // A first message may take long, and stock workers answer no ping. But if any
  // bytes have come, the handshake was answered.
  if (options_.arrivals != nullptr &&
      options_.arrivals->SinceArrival(number_) != absl::InfiniteDuration() &&
      !REPRISE_PLANTED(first_message_in_time)) {
    NoteEstablished();
    return;
  }
  Fail(absl::StrCat("nothing came through in ", absl::FormatDuration(timeout)));
}

bool ClientPipe::failed() {
  MutexLock lock(mutex_);
  return state_ == State::kFailed;
}

void ClientPipe::Open(const std::shared_ptr<tensorpipe::Pipe>& pipe,
                      const PeerFeatures& features, uint64_t number) {
  number_ = number;
  bool pings = false;
  {
    MutexLock lock(mutex_);
    features_ = features;
    if (state_ != State::kFailed) pipe_ = pipe;
    pings = features.keepalive &&
            options_.keepalive_interval > absl::ZeroDuration() &&
            !REPRISE_PLANTED(first_message_in_time);
    if (pings) asked_ = runtime_.Now();
  }
  // This reads even if the pipe has failed meanwhile: an error then ends the
  // reading.
  ReadMessages(pipe, shared_from_this(), options_.limits);
  // The ping comes first, so that its answer does not wait behind a long
  // message, and the peer knows our bound while that message arrives.
  const bool has_gpus = options_.limits.devices != nullptr &&
                        options_.limits.devices->gpu_count() > 0;
  if (pings) {
    WritePing(*pipe,
              [self = shared_from_this(), pipe] { self->WriteQueue(*pipe); });
  } else if (has_gpus && options_.arrivals != nullptr) {
    options_.arrivals->WhenAnswered(number, [self = weak_from_this(), pipe] {
      if (const auto alive = self.lock()) alive->WriteQueue(*pipe);
    });
  } else {
    WriteQueue(*pipe);
  }
  if (failed()) {
    if (options_.arrivals != nullptr) options_.arrivals->ForgetWaiter(number);
    pipe->close();
  }
}

void ClientPipe::WriteQueue(tensorpipe::Pipe& pipe) {
  while (std::optional<OutgoingCall> call = NextOfQueue()) {
    const int64_t id = call->message->id();
    WriteTo(pipe, *std::move(call));
    QueuedCallWritten(pipe, id);
  }
}

std::optional<OutgoingCall> ClientPipe::NextOfQueue() {
  MutexLock lock(mutex_);
  if (state_ == State::kFailed || may_not_write_) return std::nullopt;
  has_written_ = true;
  if (queue_.empty()) {
    state_ = State::kOpen;
    return std::nullopt;
  }
  OutgoingCall call = std::move(queue_.extract(queue_.begin()).mapped());
  being_written_ = call.message->id();
  cancelled_meanwhile_ = false;
  return call;
}

void ClientPipe::QueuedCallWritten(tensorpipe::Pipe& pipe, int64_t call_id) {
  {
    MutexLock lock(mutex_);
    being_written_.reset();
    if (!cancelled_meanwhile_) return;
  }
  WriteCancel(pipe, call_id);
}

absl::Status ClientPipe::Write(OutgoingCall call) {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  std::shared_ptr<ClientPipe> successor;
  {
    MutexLock lock(mutex_);
    successor = successor_;
    if (successor == nullptr) {
      if (state_ == State::kFailed) return failure_;
      NoteUnwritten(*call.message);
      if (state_ == State::kOpening) {
        const int64_t id = call.message->id();
        queue_.emplace(id, std::move(call));
        return absl::OkStatus();
      }
      pipe = pipe_;
    }
  }
  if (successor != nullptr) {
    REPRISE_PROBE("call written to a connection that was replaced");
    return successor->Write(std::move(call));
  }
  WriteTo(*pipe, std::move(call));
  return absl::OkStatus();
}

void ClientPipe::NoteUnwritten(const EncodedMessage& message) {
  const size_t bytes = message.num_bytes();
  ++num_unwritten_;
  num_unwritten_bytes_ += bytes;
  counters_.unwritten.Add();
  counters_.unwritten_bytes.Add(static_cast<int64_t>(bytes));
}

void ClientPipe::NoteWritten(size_t bytes) {
  --num_unwritten_;
  num_unwritten_bytes_ -= bytes;
  counters_.unwritten.Add(-1);
  counters_.unwritten_bytes.Add(-static_cast<int64_t>(bytes));
}

void ClientPipe::WriteTo(tensorpipe::Pipe& pipe, OutgoingCall call) {
  absl::Status channels = CheckChannels(*call.message, options_.arrivals.get(),
                                        number_, peer_->name);
  if (!channels.ok()) {
    Refuse(call, channels);
    return;
  }
  if (auto status = CheckTypes(*call.message); !status.ok()) {
    Refuse(call, status);
    return;
  }
  CallExtras extras;
  if (call.deadline != absl::InfiniteFuture()) {
    const absl::Time now = runtime_.Now();
    extras.remaining = call.deadline - now;
    if (extras.remaining <= absl::ZeroDuration()) {
      REPRISE_PROBE("call expired in the queue");
      if (REPRISE_PLANTED(expired_in_queue_counts)) return;
      NoteWritten(call.message->num_bytes());  // the call's timer completes it
      return;
    }
    if (REPRISE_PLANTED(absolute_deadline)) {
      extras.remaining += (now - absl::UnixEpoch()) % absl::Hours(24);
    }
    if (!features_.deadline && !REPRISE_PLANTED(deadline_to_all)) {
      extras.remaining = absl::InfiniteDuration();
    }
  }
  if (!call.idempotency_key.empty()) {
    if (!features_.idempotency) {
      Refuse(
          call,
          features_.known
              ? absl::FailedPreconditionError(absl::StrCat(
                    peer_->name,
                    " does not understand idempotency keys; call it without"))
              : absl::UnavailableError(absl::StrCat(
                    "whether ", peer_->name,
                    " understands idempotency keys is not known: the store "
                    "could not be asked")));
      return;
    }
    extras.idempotency_key = std::move(call.idempotency_key);
    extras.caller_instance = options_.instance;
    options_.sent_keys->Stamp(peer_->name, features_.memory, extras);
  }
  extras.is_to_ours = features_.is_ours;
  extras.wants_reply_id = call.wants_reply_id && features_.reply_id;
  if (features_.way_back) extras.way_back = call.message->way_back();
  tensorpipe::Message parts = ToTensorPipe(*call.message, EncodeExtras(extras));
  VLOG(2) << "call " << call.message->id() << " is written to " << peer_->name;
  // Until the write is over, the peer may copy tensors out of our memory
  // (channel cma).
  std::shared_ptr<Activity::Token> offer;
  if (!call.message->tensors().empty()) {
    offer = std::make_shared<Activity::Token>(activity_.StartOffer());
  }
  const size_t bytes = call.message->num_bytes();
  // Until then it is read from the message's memory.
  std::shared_ptr<const EncodedMessage> held = std::move(call.message);
  if (REPRISE_PLANTED(memory_held_for_a_while) &&
      call.deadline != absl::InfiniteFuture()) {
    timer_.Schedule(call.deadline, [message = std::move(held)] {});
  }
  pipe.write(std::move(parts),
             [self = shared_from_this(), offer = std::move(offer),
              on_written = std::move(call.on_written), held = std::move(held),
              bytes](const tensorpipe::Error& error) {
               self->NoteWritten(bytes);
               if (error) {
                 self->Fail(Describe(error));
               } else {
                 self->counters_.sent_bytes.Add(static_cast<int64_t>(bytes));
                 self->NoteEstablished();
                 if (on_written) on_written();
               }
             });
}

absl::Status ClientPipe::CheckTypes(const EncodedMessage& message) const {
  const std::optional<DType> type = message.later_type();
  if (!type.has_value() || features_.is_ours ||
      options_.stock_workers_know_later_types) {
    return absl::OkStatus();
  }
  if (features_.known) return LaterTypeError(*type, peer_->name);
  return absl::UnavailableError(
      absl::StrCat("whether ", peer_->name, " knows tensors of ",
                   std::string(ToString(*type)),
                   " is not known: the store could not be asked"));
}

void ClientPipe::Refuse(const OutgoingCall& call, const absl::Status& status) {
  NoteWritten(call.message->num_bytes());
  owner_.OnCallRefused(*this, call.message->id(), status);
}

void ClientPipe::WriteControl(tensorpipe::Pipe& pipe, const Control& control,
                              std::function<void()> then) {
  Message request;
  request.type = kControlRequest;
  request.payload = EncodeControl(control);
  absl::StatusOr<std::shared_ptr<const EncodedMessage>> message =
      Encode(std::move(request), /*id=*/0);
  if (!message.ok()) return;
  tensorpipe::Message parts = ToTensorPipe(**message);
  pipe.write(std::move(parts),
             [self = shared_from_this(), message = *std::move(message),
              then = std::move(then)](const tensorpipe::Error& error) {
               if (error) {
                 self->Fail(Describe(error));
                 return;
               }
               self->NoteEstablished();
               if (then) then();
             });
}

void ClientPipe::WritePing(tensorpipe::Pipe& pipe, std::function<void()> then) {
  Control control;
  control.bound = options_.keepalive_bound;
  WriteControl(pipe, control, std::move(then));
}

void ClientPipe::WriteCancel(tensorpipe::Pipe& pipe, int64_t call_id) {
  if (!features_.cancel || REPRISE_PLANTED(cancel_stays_here)) return;
  Control control;
  control.kind = Control::Kind::kCancel;
  control.call_id = call_id;
  WriteControl(pipe, control);
}

void ClientPipe::Cancel(int64_t call_id) {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  std::map<int64_t, OutgoingCall>::node_type dropped;
  {
    MutexLock lock(mutex_);
    if (state_ == State::kFailed) return;
    if (state_ == State::kOpening) {
      dropped = queue_.extract(call_id);
      if (!dropped.empty()) {
        REPRISE_PROBE("call cancelled in the queue");
        NoteWritten(dropped.mapped().message->num_bytes());
        return;
      }
      if (being_written_ == call_id) {
        // If it were sent now, the cancellation would reach the peer before the
        // call.
        REPRISE_PROBE("call cancelled while it is written");
        cancelled_meanwhile_ = true;
        return;
      }
    }
    pipe = pipe_;
  }
  if (pipe != nullptr) WriteCancel(*pipe, call_id);
}

absl::Time ClientPipe::CheckLiveness(absl::Time now, bool late,
                                     bool has_calls) {
  const absl::Duration interval = options_.keepalive_interval;
  const absl::Duration bound = options_.keepalive_bound;
  if (interval == absl::ZeroDuration() || !established_ ||
      REPRISE_PLANTED(no_keepalive)) {
    return absl::InfiniteFuture();
  }
  const absl::Duration silence = SinceArrival();
  const absl::Time received = now - silence;
  const absl::Duration pause = has_calls ? interval : bound;
  std::shared_ptr<tensorpipe::Pipe> asked;
  absl::Time dead_at = absl::InfiniteFuture();
  absl::Time ask_again_at;
  {
    MutexLock lock(mutex_);
    if (state_ == State::kOpening) return now + interval;
    if (state_ != State::kOpen || !features_.keepalive) {
      return absl::InfiniteFuture();
    }
    bool is_unanswered = first_asked_ > received;
    if (is_unanswered && late) {
      REPRISE_PROBE("client was late to look for an answer");
      first_asked_ = now;
    }
    absl::Time due = asked_ + pause;
    if (REPRISE_PLANTED(no_ping_while_served)) {
      due = std::max(due, received + pause);
    }
    if (now >= due) {
      asked_ = now;
      if (!is_unanswered) first_asked_ = now;
      is_unanswered = true;
      asked = pipe_;
    }
    ask_again_at = asked_ + pause;
    // A peer of an older version says nothing while a message of ours arrives.
    const bool can_answer = features_.progress || num_unwritten_ == 0;
    if (is_unanswered && can_answer) {
      dead_at = std::max(received + bound, first_asked_ + (bound - interval));
    }
  }
  if (now >= dead_at) {
    Fail(absl::StrCat("no sign of life from ", peer_->name, " for ",
                      absl::FormatDuration(silence)));
    return absl::InfiniteFuture();
  }
  if (asked != nullptr) WritePing(*asked);
  // The next check comes within the interval, as calls may start meanwhile.
  return std::min({dead_at, ask_again_at, now + interval});
}

absl::Duration ClientPipe::SinceArrival() const {
  absl::Duration since =
      runtime_.Now() - absl::FromUnixNanos(last_received_ns_);
  if (options_.arrivals != nullptr && !REPRISE_PLANTED(deaf_within_message) &&
      !REPRISE_PLANTED(deaf_to_answers)) {
    since = std::min(since, options_.arrivals->SinceArrival(number_));
  }
  return since;
}

void ClientPipe::NoteReceived() {
  if (REPRISE_PLANTED(deaf_to_answers) && established_) return;
  last_received_ns_ = absl::ToUnixNanos(runtime_.Now());
}

void ClientPipe::NoteEstablished() {
  if (established_) return;
  NoteReceived();
  std::optional<Timer::Key> expectation;
  {
    MutexLock lock(mutex_);
    if (established_ || state_ == State::kFailed) return;
    established_ = true;
    expectation.swap(expectation_);
  }
  if (expectation.has_value()) timer_.Cancel(*expectation);
  owner_.OnPipeEstablished(*this);
}

void ClientPipe::OnMessageBegins() {
  NoteEstablished();
  NoteReceived();
}

std::shared_ptr<CpuAllocator> ClientPipe::AllocatorFor(
    std::string_view metadata) {
  const std::optional<int64_t> call_id = ReplyIdOf(metadata);
  return call_id.has_value() ? owner_.ClaimMemory(*this, *call_id) : nullptr;
}

bool ClientPipe::HasChannel(const tensorpipe::Device& theirs,
                            const tensorpipe::Device& ours) {
  return options_.arrivals != nullptr &&
         options_.arrivals->HasChannel(number_, ours, theirs);
}

void ClientPipe::OnMessage(IncomingMessage message) {
  NoteReceived();
  if (REPRISE_PLANTED(excused_by_size)) {
    last_received_ns_ += static_cast<int64_t>(message.num_bytes()) * 1000;
  }
  owner_.OnPipeMessage(*this, std::move(message));
}

void ClientPipe::OnReadFailed(const std::string& cause) { Fail(cause); }

void ClientPipe::Fail(const std::string& cause) {
  const absl::Status failure = absl::UnavailableError(
      absl::StrCat("connection to ", peer_->name, " failed: ", cause));
  bool may_be_replaced = false;
  {
    MutexLock lock(mutex_);
    if (state_ == State::kFailed || may_not_write_) return;
    // From now on no call is written.
    may_be_replaced = may_not_write_ = !has_written_;
  }
  const std::shared_ptr<ClientPipe> successor =
      may_be_replaced ? owner_.Replace(*this, cause) : nullptr;
  if (Stop(failure, /*tell_owner=*/successor == nullptr, successor) &&
      successor != nullptr) {
    owner_.OnReplaced(successor);
  }
}

bool ClientPipe::Close() {
  return Stop(absl::UnavailableError(
                  absl::StrCat("connection to ", peer_->name, " was closed")),
              /*tell_owner=*/false);
}

bool ClientPipe::Stop(const absl::Status& failure, bool tell_owner,
                      const std::shared_ptr<ClientPipe>& successor) {
  std::map<int64_t, OutgoingCall> dropped;
  std::shared_ptr<tensorpipe::Pipe> pipe;
  std::optional<Timer::Key> expectation;
  {
    MutexLock lock(mutex_);
    if (state_ == State::kFailed) return false;
    state_ = State::kFailed;
    failure_ = failure;
    successor_ = successor;
    dropped.swap(queue_);
    pipe.swap(pipe_);
    expectation.swap(expectation_);
  }
  for (auto& [id, call] : dropped) {
    NoteWritten(call.message->num_bytes());
    if (successor != nullptr) HandOver(std::move(call), *successor);
  }
  if (expectation.has_value()) timer_.Cancel(*expectation);
  if (options_.arrivals != nullptr && number_ != 0) {
    options_.arrivals->ForgetWaiter(number_);
  }
  VLOG(1) << failure.message();
  // The owner forgets the pipe before anybody hears of its failure.
  if (tell_owner) owner_.OnPipeFailed(*this, failure);
  if (pipe != nullptr) pipe->close();
  return true;
}

void ClientPipe::HandOver(OutgoingCall call, ClientPipe& successor) {
  const int64_t id = call.message->id();
  // The successor may have failed already, before this call was entered.
  if (absl::Status failure = successor.Write(std::move(call)); !failure.ok()) {
    owner_.OnCallRefused(*this, id, failure);
    return;
  }
  if (REPRISE_PLANTED(cancel_lost_in_handover)) return;
  // It may have been cancelled while it was in neither queue.
  if (!owner_.IsPending(*this, id)) {
    REPRISE_PROBE("call ended while it is handed over");
    successor.Cancel(id);
  }
}

}  // namespace reprise
