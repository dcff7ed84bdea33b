#include "agent/client_pipe.h"

#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/planted.h"
#include "glog/logging.h"

namespace reprise {

ClientPipe::ClientPipe(Runtime& runtime, Timer& timer, Owner& owner,
                       MemberPtr peer, Activity& activity,
                       PeerCounters& counters, uint64_t generation)
    : timer_(timer),
      owner_(owner),
      peer_(std::move(peer)),
      activity_(activity),
      counters_(counters),
      generation_(generation),
      mutex_(runtime, "ClientPipe") {}

void ClientPipe::ExpectWithin(absl::Time deadline, absl::Duration timeout) {
  MutexLock lock(mutex_);
  if (state_ == State::kFailed || works_) return;
  expectation_ =
      timer_.Schedule(deadline, [self = shared_from_this(), timeout] {
        self->Fail(absl::StrCat("nothing came through in ",
                                absl::FormatDuration(timeout)));
      });
}

void ClientPipe::Open(std::shared_ptr<tensorpipe::Pipe> pipe) {
  {
    MutexLock lock(mutex_);
    if (state_ != State::kFailed) pipe_ = pipe;
  }
  // Also when it failed meanwhile: an error will come and end the reading.
  ReadMessages(pipe, shared_from_this());
  while (true) {
    std::deque<std::shared_ptr<const EncodedMessage>> queue;
    {
      MutexLock lock(mutex_);
      if (state_ == State::kFailed) break;
      if (queue_.empty()) {
        state_ = State::kOpen;
        return;
      }
      queue.swap(queue_);
    }
    for (std::shared_ptr<const EncodedMessage>& message : queue) {
      WriteTo(*pipe, std::move(message));
    }
  }
  pipe->close();
}

absl::Status ClientPipe::Write(std::shared_ptr<const EncodedMessage> message) {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  {
    MutexLock lock(mutex_);
    if (state_ == State::kFailed) return failure_;
    ++num_unwritten_;
    if (state_ == State::kOpening) {
      queue_.push_back(std::move(message));
      return absl::OkStatus();
    }
    pipe = pipe_;
  }
  WriteTo(*pipe, std::move(message));
  return absl::OkStatus();
}

void ClientPipe::WriteTo(tensorpipe::Pipe& pipe,
                         std::shared_ptr<const EncodedMessage> message) {
  tensorpipe::Message parts = ToTensorPipe(*message);
  VLOG(2) << "call " << message->id() << " is written to " << peer_->name;
  // The peer may copy tensors out of our memory until then (channel cma).
  std::shared_ptr<Activity::Token> offer;
  if (!message->tensors().empty()) {
    offer = std::make_shared<Activity::Token>(activity_.StartOffer());
  }
  pipe.write(std::move(parts),
             [self = shared_from_this(), offer = std::move(offer),
              message = std::move(message)](const tensorpipe::Error& error) {
               --self->num_unwritten_;
               if (error) {
                 self->Fail(Describe(error));
               } else {
                 self->counters_.sent_bytes.Add(
                     static_cast<int64_t>(message->num_bytes()));
                 self->Works();
               }
             });
}

void ClientPipe::Works() {
  if (works_) return;
  std::optional<Timer::Key> expectation;
  {
    MutexLock lock(mutex_);
    if (works_ || state_ == State::kFailed) return;
    works_ = true;
    expectation.swap(expectation_);
  }
  if (expectation.has_value()) timer_.Cancel(*expectation);
  owner_.OnPipeWorks(*this);
}

void ClientPipe::OnMessageBegins() { Works(); }

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
  std::deque<std::shared_ptr<const EncodedMessage>> dropped;
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
  num_unwritten_ -= dropped.size();
  if (expectation.has_value()) timer_.Cancel(*expectation);
  VLOG(1) << failure.message();
  // The owner forgets the pipe before anybody hears of its failure.
  if (tell_owner) owner_.OnPipeFailed(*this, failure);
  if (pipe != nullptr) pipe->close();
  return true;
}

}  // namespace reprise
