#include "agent/server/server_pipe.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/group/worker_directory.h"
#include "agent/pipe/keepalive.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// Of a peer's claim; what it asks for must not keep us busy.
constexpr absl::Duration kShortestBound = absl::Seconds(1);

// Requests that were cancelled and perhaps still run.
constexpr size_t kMaxCancelled = 1024;

}  // namespace

ServerPipe::ServerPipe(Runtime& runtime, Timer& timer, Owner& owner,
                       Activity& activity, Metrics& metrics, uint64_t number,
                       std::shared_ptr<tensorpipe::Pipe> pipe,
                       const WireLimits& limits, Admission::PeerPtr admitted,
                       size_t max_unwritten)
    : runtime_(runtime),
      timer_(timer),
      owner_(owner),
      limits_(limits),
      admitted_(std::move(admitted)),
      max_unwritten_(max_unwritten),
      number_(number),
      peer_name_(PeerName(*pipe)),
      activity_(activity),
      counters_(metrics.Caller(peer_name_)),
      mutex_(runtime, "ServerPipe"),
      pipe_(std::move(pipe)) {}

std::string ServerPipe::PeerName(tensorpipe::Pipe& pipe) {
  const std::string& name = pipe.getRemoteName();
  return IsWorkerName(name) ? name : "?";
}

void ServerPipe::Start(absl::Time deadline) {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  {
    MutexLock lock(mutex_);
    if (pipe_ == nullptr) return;
    pipe = pipe_;
    if (deadline != absl::InfiniteFuture()) {
      expectation_ = timer_.Schedule(deadline, [self = shared_from_this()] {
        self->Fail("it connected and then said nothing");
      });
    }
  }
  ReadMessages(std::move(pipe), shared_from_this(), limits_);
}

void ServerPipe::Write(std::shared_ptr<const EncodedMessage> message) {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  {
    MutexLock lock(mutex_);
    pipe = pipe_;
    if (pipe != nullptr) ++num_unwritten_;
  }
  if (pipe == nullptr) {
    owner_.OnReplyWritten(*this, message->num_bytes());
    return;
  }
  tensorpipe::Message parts = ToTensorPipe(*message);
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
                } else {
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
    if (holds_reading_ && num_unwritten_ <= max_unwritten_ / 2) {
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

void ServerPipe::OnMessageBegins(size_t num_bytes) {
  last_received_ns_ =
      absl::ToUnixNanos(runtime_.Now() + TimeToCarry(num_bytes));
  if (established_) return;
  established_ = true;  // by this thread alone: messages come one at a time
  std::optional<Timer::Key> expectation;
  {
    MutexLock lock(mutex_);
    expectation.swap(expectation_);
  }
  if (expectation.has_value()) timer_.Cancel(*expectation);
}

void ServerPipe::ExpectSigns(absl::Duration bound) {
  MutexLock lock(mutex_);
  bound_ = std::max(bound, kShortestBound);
}

absl::Time ServerPipe::CheckLiveness(absl::Time now, bool late) {
  const absl::Time heard = absl::FromUnixNanos(last_received_ns_);
  absl::Duration bound;
  {
    MutexLock lock(mutex_);
    if (pipe_ == nullptr || bound_ == absl::InfiniteDuration()) {
      return absl::InfiniteFuture();
    }
    bound = 2 * bound_;
  }
  if (now < heard + bound) return heard + bound;
  if (late) return now + bound;
  Fail(absl::StrCat("no sign of life from ", peer_name_, " for ",
                    absl::FormatDuration(now - heard)));
  return absl::InfiniteFuture();
}

void ServerPipe::CancelCall(int64_t call_id) {
  MutexLock lock(mutex_);
  cancelled_.push_back(call_id);
  if (cancelled_.size() > kMaxCancelled) cancelled_.pop_front();
  any_cancelled_ = true;
}

bool ServerPipe::WasCancelled(int64_t call_id) {
  if (!any_cancelled_) return false;
  MutexLock lock(mutex_);
  return std::find(cancelled_.begin(), cancelled_.end(), call_id) !=
         cancelled_.end();
}

bool ServerPipe::IsCancelled(int64_t call_id, absl::Time deadline) {
  {
    MutexLock lock(mutex_);
    if (pipe_ == nullptr) return true;
  }
  return WasCancelled(call_id) || runtime_.Now() >= deadline;
}

void ServerPipe::OnMessage(IncomingMessage message) {
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
