#include "agent/server_pipe.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/worker_directory.h"
#include "glog/logging.h"

namespace reprise {

ServerPipe::ServerPipe(Runtime& runtime, Timer& timer, Owner& owner,
                       Activity& activity, Metrics& metrics, uint64_t number,
                       std::shared_ptr<tensorpipe::Pipe> pipe)
    : timer_(timer),
      owner_(owner),
      number_(number),
      peer_name_(IsWorkerName(pipe->getRemoteName()) ? pipe->getRemoteName()
                                                     : "?"),
      activity_(activity),
      counters_(metrics.Caller(peer_name_)),
      mutex_(runtime, "ServerPipe"),
      pipe_(std::move(pipe)) {}

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
  ReadMessages(std::move(pipe), shared_from_this());
}

void ServerPipe::Write(std::shared_ptr<const EncodedMessage> message) {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  {
    MutexLock lock(mutex_);
    pipe = pipe_;
  }
  if (pipe == nullptr) {
    owner_.OnReplyWritten();
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
                self->owner_.OnReplyWritten();
              });
}

void ServerPipe::OnMessageBegins() {
  if (works_) return;
  works_ = true;  // by this thread alone: messages come one at a time
  std::optional<Timer::Key> expectation;
  {
    MutexLock lock(mutex_);
    expectation.swap(expectation_);
  }
  if (expectation.has_value()) timer_.Cancel(*expectation);
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
