#include "agent/client/client_pipe.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/pipe/keepalive.h"
#include "agent/planted.h"
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
  MutexLock lock(mutex_);
  if (state_ == State::kFailed || established_) return;
  expectation_ =
      timer_.Schedule(deadline, [self = shared_from_this(), timeout] {
        self->Fail(absl::StrCat("nothing came through in ",
                                absl::FormatDuration(timeout)));
      });
}

bool ClientPipe::failed() {
  MutexLock lock(mutex_);
  return state_ == State::kFailed;
}

void ClientPipe::Open(const std::shared_ptr<tensorpipe::Pipe>& pipe,
                      const PeerFeatures& features) {
  {
    MutexLock lock(mutex_);
    features_ = features;
    if (state_ != State::kFailed) pipe_ = pipe;
  }
  // Also when it failed meanwhile: an error will come and end the reading.
  ReadMessages(pipe, shared_from_this(), options_.limits);
  while (true) {
    std::deque<OutgoingCall> queue;
    {
      MutexLock lock(mutex_);
      if (state_ == State::kFailed) break;
      if (queue_.empty()) {
        state_ = State::kOpen;
        return;
      }
      queue.swap(queue_);
    }
    for (OutgoingCall& call : queue) WriteTo(*pipe, std::move(call));
  }
  pipe->close();
}

absl::Status ClientPipe::Write(OutgoingCall call) {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  {
    MutexLock lock(mutex_);
    if (state_ == State::kFailed) return failure_;
    ++num_unwritten_;
    num_unwritten_bytes_ += call.message->num_bytes();
    if (state_ == State::kOpening) {
      queue_.push_back(std::move(call));
      return absl::OkStatus();
    }
    pipe = pipe_;
  }
  WriteTo(*pipe, std::move(call));
  return absl::OkStatus();
}

void ClientPipe::NotWritten(const OutgoingCall& call) {
  --num_unwritten_;
  num_unwritten_bytes_ -= call.message->num_bytes();
}

void ClientPipe::WriteTo(tensorpipe::Pipe& pipe, OutgoingCall call) {
  CallExtras extras;
  if (call.deadline != absl::InfiniteFuture()) {
    extras.remaining = call.deadline - runtime_.Now();
    if (extras.remaining <= absl::ZeroDuration()) {
      NotWritten(call);  // its timer completes it
      return;
    }
    if (!features_.deadline) extras.remaining = absl::InfiniteDuration();
  }
  if (!call.idempotency_key.empty()) {
    if (!features_.idempotency) {
      NotWritten(call);
      owner_.OnCallRefused(
          *this, call.message->id(),
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
  }
  tensorpipe::Message parts = ToTensorPipe(*call.message, EncodeExtras(extras));
  VLOG(2) << "call " << call.message->id() << " is written to " << peer_->name;
  // The peer may copy tensors out of our memory until then (channel cma).
  std::shared_ptr<Activity::Token> offer;
  if (!call.message->tensors().empty()) {
    offer = std::make_shared<Activity::Token>(activity_.StartOffer());
  }
  pipe.write(
      std::move(parts),
      [self = shared_from_this(), offer = std::move(offer),
       on_written = std::move(call.on_written),
       message = std::move(call.message)](const tensorpipe::Error& error) {
        --self->num_unwritten_;
        self->num_unwritten_bytes_ -= message->num_bytes();
        if (error) {
          self->Fail(Describe(error));
        } else {
          self->counters_.sent_bytes.Add(
              static_cast<int64_t>(message->num_bytes()));
          self->NoteEstablished();
          if (on_written) on_written();
        }
      });
}

void ClientPipe::WriteControl(tensorpipe::Pipe& pipe, const Control& control) {
  Message request;
  request.type = kControlRequest;
  request.payload = EncodeControl(control);
  absl::StatusOr<std::shared_ptr<const EncodedMessage>> message =
      Encode(std::move(request), /*id=*/0);
  if (!message.ok()) return;
  tensorpipe::Message parts = ToTensorPipe(**message);
  pipe.write(std::move(parts),
             [self = shared_from_this(),
              message = *std::move(message)](const tensorpipe::Error& error) {
               if (error) self->Fail(Describe(error));
             });
}

void ClientPipe::Cancel(int64_t call_id) {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  OutgoingCall dropped;
  {
    MutexLock lock(mutex_);
    if (state_ == State::kFailed) return;
    if (state_ == State::kOpening) {
      const auto found = std::find_if(queue_.begin(), queue_.end(),
                                      [&](const OutgoingCall& call) {
                                        return call.message->id() == call_id;
                                      });
      if (found != queue_.end()) {
        dropped = std::move(*found);
        queue_.erase(found);
        NotWritten(dropped);
        return;
      }
      // `Open` is just writing it.
      if (pipe_ == nullptr) return;
    }
    pipe = pipe_;
  }
  if (!features_.cancel || REPRISE_PLANTED(cancel_stays_here)) return;
  Control control;
  control.kind = Control::Kind::kCancel;
  control.call_id = call_id;
  WriteControl(*pipe, control);
}

absl::Time ClientPipe::CheckLiveness(absl::Time now, bool late,
                                     bool has_calls) {
  if (options_.keepalive_interval == absl::ZeroDuration() || !established_ ||
      REPRISE_PLANTED(no_keepalive)) {
    return absl::InfiniteFuture();
  }
  const absl::Duration grace =
      options_.keepalive_bound - options_.keepalive_interval;
  std::shared_ptr<tensorpipe::Pipe> pipe;
  const absl::Time heard = absl::FromUnixNanos(last_received_ns_);
  {
    MutexLock lock(mutex_);
    if (state_ != State::kOpen || !features_.keepalive) {
      return state_ == State::kOpening ? now + options_.keepalive_interval
                                       : absl::InfiniteFuture();
    }
    const bool asked = asked_ > heard;
    const absl::Time due = heard + (has_calls ? options_.keepalive_interval
                                              : options_.keepalive_bound);
    // Calls may come.
    if (!asked && now < due) {
      return std::min(due, now + options_.keepalive_interval);
    }
    if (!asked || late) asked_ = now;
    const absl::Time bound =
        std::max(heard + options_.keepalive_bound, asked_ + grace) +
        TimeToCarry(num_unwritten_bytes_);
    if (asked && now < bound) return bound;
    if (!asked) pipe = pipe_;
  }
  if (pipe == nullptr) {
    Fail(absl::StrCat("no sign of life from ", peer_->name, " for ",
                      absl::FormatDuration(now - heard)));
    return absl::InfiniteFuture();
  }
  Control control;
  control.bound = options_.keepalive_bound;
  WriteControl(*pipe, control);
  // If it answers, it may fall silent right after.
  return now + std::min(grace, options_.keepalive_interval);
}

void ClientPipe::NoteReceived(absl::Duration allowance) {
  last_received_ns_ = absl::ToUnixNanos(runtime_.Now() + allowance);
}

void ClientPipe::NoteEstablished() {
  if (established_) return;
  NoteReceived(absl::ZeroDuration());
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

void ClientPipe::OnMessageBegins(size_t num_bytes) {
  NoteEstablished();
  NoteReceived(TimeToCarry(num_bytes));
}

void ClientPipe::OnMessage(IncomingMessage message) {
  owner_.OnPipeMessage(*this, std::move(message));
}

void ClientPipe::OnReadFailed(const std::string& cause) { Fail(cause); }

void ClientPipe::Fail(const std::string& cause) {
  Stop(absl::UnavailableError(
           absl::StrCat("connection to ", peer_->name, " failed: ", cause)),
       /*tell_owner=*/true);
}

bool ClientPipe::Close() {
  return Stop(absl::UnavailableError(
                  absl::StrCat("connection to ", peer_->name, " was closed")),
              /*tell_owner=*/false);
}

bool ClientPipe::Stop(const absl::Status& failure, bool tell_owner) {
  std::deque<OutgoingCall> dropped;
  std::shared_ptr<tensorpipe::Pipe> pipe;
  std::optional<Timer::Key> expectation;
  {
    MutexLock lock(mutex_);
    if (state_ == State::kFailed) return false;
    state_ = State::kFailed;
    failure_ = failure;
    dropped.swap(queue_);
    pipe.swap(pipe_);
    expectation.swap(expectation_);
  }
  for (const OutgoingCall& call : dropped) NotWritten(call);
  if (expectation.has_value()) timer_.Cancel(*expectation);
  VLOG(1) << failure.message();
  // The owner forgets the pipe before anybody hears of its failure.
  if (tell_owner) owner_.OnPipeFailed(*this, failure);
  if (pipe != nullptr) pipe->close();
  return true;
}

}  // namespace reprise
