#include "agent/server/server_pipe.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/group/worker_directory.h"
#include "agent/pipe/channel_check.h"
#include "agent/planted.h"
#include "agent/probe.h"
#include "agent/wire/call_extras.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// A peer must not keep us busy by what it asks for. When its silence is judged,
// its bound counts as at least `kMinBound`, and at least `kMinPause` lies
// between two signs of life to it.
constexpr absl::Duration kMinBound = absl::Seconds(1);
constexpr absl::Duration kMinPause = absl::Milliseconds(10);

// How many signs of life are sent within a bound, so that some may be late.
constexpr int kSignsPerBound = 4;

// A peer that has not read so many signs of life gets no more.
constexpr int kMaxUnwrittenSigns = 64;

absl::Duration PauseOf(absl::Duration bound) {
  return std::max(bound / kSignsPerBound, kMinPause);
}

}  // namespace

ServerPipe::ServerPipe(Runtime& runtime, Timer& timer, Owner& owner,
                       Activity& activity, Metrics& metrics, uint64_t number,
                       std::shared_ptr<tensorpipe::Pipe> pipe,
                       const WireLimits& limits,
                       std::shared_ptr<PipeArrivals> arrivals,
                       Admission::PeerPtr admitted, size_t max_unwritten)
    : runtime_(runtime),
      timer_(timer),
      owner_(owner),
      limits_(limits),
      admitted_(std::move(admitted)),
      max_unwritten_(max_unwritten),
      number_(number),
      peer_name_(PeerName(*pipe)),
      arrivals_(std::move(arrivals)),
      arrivals_number_(PipeArrivals::Parse(pipe->getRemoteName()).second),
      activity_(activity),
      counters_(metrics.Caller(peer_name_)),
      mutex_(runtime, "ServerPipe"),
      pipe_(std::move(pipe)) {}

std::string ServerPipe::PeerName(tensorpipe::Pipe& pipe) {
  const std::string_view name = PipeArrivals::Parse(pipe.getRemoteName()).first;
  return IsWorkerName(name) ? std::string(name) : "?";
}

void ServerPipe::Start(absl::Duration connect_timeout) {
  NoteReceived();  // the handshake
  std::shared_ptr<tensorpipe::Pipe> pipe;
  {
    MutexLock lock(mutex_);
    pipe = pipe_;
  }
  if (pipe == nullptr) return;
  ExpectFirstMessage(runtime_.Now() + connect_timeout, connect_timeout);
  ReadMessages(std::move(pipe), shared_from_this(), limits_);
}

void ServerPipe::ExpectFirstMessage(absl::Time deadline,
                                    absl::Duration connect_timeout) {
  if (deadline == absl::InfiniteFuture()) return;
  MutexLock lock(mutex_);
  if (pipe_ == nullptr || established_) return;
  expectation_ =
      timer_.Schedule(deadline, [self = shared_from_this(), connect_timeout] {
        self->OnNoFirstMessage(connect_timeout);
      });
}

void ServerPipe::OnNoFirstMessage(absl::Duration connect_timeout) {
  const absl::Duration silence = SinceArrival();
  if (silence < connect_timeout) {
    ExpectFirstMessage(runtime_.Now() + connect_timeout - silence,
                       connect_timeout);
    return;
  }
  Fail("it connected and then said nothing");
}

absl::Status ServerPipe::CheckChannels(const EncodedMessage& message) {
  return reprise::CheckChannels(message, arrivals_.get(), arrivals_number_,
                                peer_name_);
}

bool ServerPipe::HasChannel(const tensorpipe::Device& theirs,
                            const tensorpipe::Device& ours) {
  return arrivals_ != nullptr &&
         arrivals_->HasChannel(arrivals_number_, ours, theirs);
}

void ServerPipe::Write(std::shared_ptr<const EncodedMessage> message) {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  bool says_id = false;
  {
    MutexLock lock(mutex_);
    pipe = pipe_;
    if (message->type() != kControlResponse) {
      const auto call = calls_.find(message->id());
      if (call != calls_.end()) {
        says_id = call->second.wants_reply_id && !message->tensors().empty();
        calls_.erase(call);
      }
    }
    if (pipe != nullptr) ++num_unwritten_;
  }
  if (pipe == nullptr) {
    REPRISE_PROBE("reply to a connection that is gone");
    if (REPRISE_PLANTED(gone_reply_never_ends)) return;
    owner_.OnReplyWritten(*this, message->num_bytes());
    return;
  }
  tensorpipe::Message parts =
      ToTensorPipe(*message, says_id ? EncodeReplyId(message->id()) : "");
  // The peer may copy tensors out of our memory until then (channel cma).
  std::shared_ptr<Activity::Token> offer;
  if (!message->tensors().empty()) {
    offer = std::make_shared<Activity::Token>(activity_.StartOffer());
  }
  pipe->write(std::move(parts),
              [self = shared_from_this(), offer = std::move(offer),
               message = std::move(message)](const tensorpipe::Error& error) {
                if (error) {
                  self->Fail(Describe(error));
                } else if (message->type() != kControlResponse) {
                  self->counters_.sent_bytes.Add(
                      static_cast<int64_t>(message->num_bytes()));
                }
                self->EndWrite(message->num_bytes());
              });
}

void ServerPipe::EndWrite(size_t num_bytes) {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  {
    MutexLock lock(mutex_);
    --num_unwritten_;
    if (holds_reading_ && num_unwritten_ <= max_unwritten_ / 2 &&
        !(REPRISE_PLANTED(reading_not_resumed) &&
          num_unwritten_ == max_unwritten_ / 2)) {
      REPRISE_PROBE("connection is read on");
      holds_reading_ = false;
      pipe = pipe_;
    }
  }
  owner_.OnReplyWritten(*this, num_bytes);
  if (pipe != nullptr) {
    ReadMessages(std::move(pipe), shared_from_this(), limits_);
  }
}

bool ServerPipe::ReadsOn() {
  MutexLock lock(mutex_);
  holds_reading_ = num_unwritten_ >= max_unwritten_;
  return !holds_reading_;
}

void ServerPipe::WriteSign(tensorpipe::Pipe& pipe) {
  if (num_unwritten_signs_ >= kMaxUnwrittenSigns) return;
  Message pong;
  pong.type = kControlResponse;
  pong.payload = "pong";
  const absl::StatusOr<std::shared_ptr<const EncodedMessage>> message =
      Encode(std::move(pong), /*id=*/0);
  if (!message.ok()) return;
  ++num_unwritten_signs_;
  pipe.write(ToTensorPipe(**message),
             [self = shared_from_this(),
              message = *message](const tensorpipe::Error& error) {
               --self->num_unwritten_signs_;
               if (error) self->Fail(Describe(error));
             });
}

void ServerPipe::NoteReceived() {
  last_received_ns_ = absl::ToUnixNanos(runtime_.Now());
}

absl::Duration ServerPipe::SinceArrival() const {
  absl::Duration since =
      runtime_.Now() - absl::FromUnixNanos(last_received_ns_);
  if (arrivals_ != nullptr && !REPRISE_PLANTED(deaf_within_message)) {
    since = std::min(since, arrivals_->SinceArrival(arrivals_number_));
  }
  return since;
}

void ServerPipe::OnMessageBegins() {
  NoteReceived();
  is_receiving_ = true;
  if (established_) return;
  std::optional<Timer::Key> expectation;
  {
    MutexLock lock(mutex_);
    established_ = true;
    expectation.swap(expectation_);
  }
  if (expectation.has_value()) timer_.Cancel(*expectation);
}

absl::Duration ServerPipe::ExpectSigns(absl::Duration bound) {
  MutexLock lock(mutex_);
  bound_ = bound;
  return PauseOf(bound);
}

absl::Time ServerPipe::CheckLiveness(absl::Time now, bool late) {
  const absl::Duration silence = SinceArrival();
  std::shared_ptr<tensorpipe::Pipe> owed;
  absl::Duration longest_silence;
  absl::Duration pause;
  {
    MutexLock lock(mutex_);
    if (pipe_ == nullptr || bound_ == absl::InfiniteDuration()) {
      return absl::InfiniteFuture();
    }
    longest_silence = 2 * std::max(bound_, kMinBound);
    pause = PauseOf(bound_);
    if (is_receiving_ && now >= last_sign_ + pause &&
        !REPRISE_PLANTED(mute_within_message)) {
      last_sign_ = now;
      owed = pipe_;
    }
  }
  if (silence >= longest_silence && !late) {
    Fail(absl::StrCat("no sign of life from ", peer_name_, " for ",
                      absl::FormatDuration(silence)));
    return absl::InfiniteFuture();
  }
  if (owed != nullptr) WriteSign(*owed);
  if (late) return now + pause;
  return now + std::min(pause, longest_silence - silence);
}

void ServerPipe::StartCall(int64_t call_id, bool wants_reply_id) {
  MutexLock lock(mutex_);
  calls_.emplace(call_id, PendingCall{.wants_reply_id = wants_reply_id});
}

void ServerPipe::Drop(int64_t call_id) {
  MutexLock lock(mutex_);
  calls_.erase(call_id);
}

void ServerPipe::CancelCall(int64_t call_id) {
  MutexLock lock(mutex_);
  const auto found = calls_.find(call_id);
  if (found == calls_.end()) return;  // it was answered
  found->second.is_cancelled = true;
  any_cancelled_ = true;
}

bool ServerPipe::WasCancelled(int64_t call_id) {
  if (!any_cancelled_) return false;
  MutexLock lock(mutex_);
  const auto found = calls_.find(call_id);
  return found != calls_.end() && found->second.is_cancelled;
}

bool ServerPipe::IsCancelled(int64_t call_id, absl::Time deadline) {
  {
    MutexLock lock(mutex_);
    if (pipe_ == nullptr) return true;
  }
  return WasCancelled(call_id) || runtime_.Now() >= deadline;
}

void ServerPipe::OnMessage(IncomingMessage message) {
  is_receiving_ = false;
  NoteReceived();
  owner_.OnPipeMessage(shared_from_this(), std::move(message));
}

void ServerPipe::OnReadFailed(const std::string& cause) { Fail(cause); }

void ServerPipe::Fail(const std::string& cause) {
  if (!Close()) return;
  const absl::Status status = absl::UnavailableError(
      absl::StrCat("connection from ", peer_name_, " failed: ", cause));
  VLOG(1) << status.message();
  owner_.OnPipeFailed(*this, status);
}

bool ServerPipe::Close() {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  std::optional<Timer::Key> expectation;
  {
    MutexLock lock(mutex_);
    if (pipe_ == nullptr) return false;
    pipe.swap(pipe_);
    expectation.swap(expectation_);
  }
  if (expectation.has_value()) timer_.Cancel(*expectation);
  pipe->close();
  return true;
}

}  // namespace reprise
