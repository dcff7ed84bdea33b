#include "agent/server.h"

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/planted.h"
#include "agent/wire/message_codec.h"
#include "agent/wire/rpc_error.h"
#include "glog/logging.h"

namespace reprise {

Server::Server(Runtime& runtime, Timer& timer, ThreadPool& workers,
               std::shared_ptr<Activity> activity, Metrics& metrics,
               Observer* observer, RequestHandler handler,
               const WorkerDirectory& workers_in_group,
               absl::Duration connect_timeout)
    : runtime_(runtime),
      timer_(timer),
      workers_(workers),
      activity_(std::move(activity)),
      metrics_(metrics),
      observer_(observer),
      handler_(std::move(handler)),
      workers_in_group_(workers_in_group),
      connect_timeout_(connect_timeout),
      mutex_(runtime, "Server"),
      idle_(runtime, "Server.idle") {}

void Server::AddPipe(std::shared_ptr<tensorpipe::Pipe> pipe) {
  std::shared_ptr<ServerPipe> accepted;
  {
    MutexLock lock(mutex_);
    if (!closed_) {
      const uint64_t number = next_pipe_++;
      accepted = std::make_shared<ServerPipe>(
          runtime_, timer_, *this, *activity_, metrics_, number, pipe);
      pipes_.emplace(number, accepted);
    }
  }
  if (accepted == nullptr) {
    pipe->close();
    return;
  }
  VLOG(1) << "pipe " << accepted->number() << " accepted from "
          << accepted->peer_name();
  if (observer_ != nullptr) {
    observer_->OnPipe("accepted", accepted->peer_name(), absl::OkStatus());
  }
  accepted->Start(runtime_.Now() + connect_timeout_);
}

void Server::OnPipeFailed(ServerPipe& pipe, const absl::Status& status) {
  std::shared_ptr<ServerPipe> forgotten;
  {
    MutexLock lock(mutex_);
    const auto found = pipes_.find(pipe.number());
    if (found != pipes_.end()) {
      forgotten = std::move(found->second);
      pipes_.erase(found);
    }
  }
  if (observer_ != nullptr) {
    observer_->OnPipe("failed", pipe.peer_name(), status);
  }
}

void Server::OnPipeMessage(std::shared_ptr<ServerPipe> pipe,
                           IncomingMessage message) {
  if (!IsRequest(message.type())) {
    pipe->Fail("it sent what is no request");
    return;
  }
  Activity::RequestTokens tokens = activity_->StartRequest();
  pipe->counters().calls.Add();
  pipe->counters().received_bytes.Add(
      static_cast<int64_t>(message.num_bytes()));
  VLOG(2) << "call " << message.id() << " of " << pipe->peer_name() << " came";
  workers_.Run([self = shared_from_this(), pipe = std::move(pipe),
                message = std::move(message),
                tokens = std::move(tokens)]() mutable {
    self->Handle(std::move(pipe), std::move(message), std::move(tokens.reply));
    tokens.handler.Release();
  });
}

void Server::Handle(std::shared_ptr<ServerPipe> pipe, IncomingMessage message,
                    Activity::Token reply_token) {
  {
    MutexLock lock(mutex_);
    if (closed_ && !REPRISE_PLANTED(callback_after_shutdown)) return;
  }
  const RequestInfo info{pipe->peer_name(), message.id()};
  const auto reply =
      std::make_shared<PendingReply>(shared_from_this(), std::move(pipe),
                                     info.call_id, std::move(reply_token));
  absl::StatusOr<DecodedMessage> request = std::move(message).Decode();
  if (!request.ok()) {
    reply->Answer(absl::Status(
        request.status().code(),
        absl::StrCat("cannot read the request: ", request.status().message())));
    return;
  }
  if (observer_ != nullptr) {
    observer_->OnRequest(info.caller, info.call_id, request->message);
  }
  RunHandler(std::move(request->message), info, reply);
}

void Server::RunHandler(Message request, const RequestInfo& info,
                        const std::shared_ptr<PendingReply>& reply) {
  absl::Status thrown;
  try {
    handler_(std::move(request), info,
             Reply([reply](absl::StatusOr<Message> result) {
               reply->Answer(std::move(result));
             }));
  } catch (const std::exception& error) {
    thrown = absl::UnknownError(error.what());
  } catch (...) {
    thrown = absl::UnknownError("an exception of unknown type");
  }
  if (thrown.ok()) {
    reply->HandlerReturned();
  } else {
    reply->HandlerThrew(std::move(thrown));
  }
}

std::shared_ptr<const EncodedMessage> Server::EncodeReply(
    int64_t call_id, absl::StatusOr<Message>& result) {
  if (result.ok() && !IsResponse(result->type)) {
    result = absl::InternalError(absl::StrCat(
        "the handler answered with a message of type ",
        static_cast<int32_t>(result->type), ", which is no response"));
  }
  if (result.ok()) {
    // An observer is shown the message as well.
    absl::StatusOr<std::shared_ptr<const EncodedMessage>> encoded =
        observer_ == nullptr ? Encode(*std::move(result), call_id)
                             : Encode(*result, call_id);
    if (encoded.ok()) return *std::move(encoded);
    result = encoded.status();
  }
  Message exception;
  exception.type = MessageType::kException;
  exception.payload =
      ExceptionPayload(workers_in_group_.self_id(), result.status());
  absl::StatusOr<std::shared_ptr<const EncodedMessage>> encoded =
      Encode(std::move(exception), call_id);
  return encoded.ok() ? *std::move(encoded) : nullptr;
}

void Server::SendReply(ServerPipe& pipe, int64_t call_id,
                       absl::StatusOr<Message> result) {
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    ++replies_being_sent_;
    ++unwritten_;
  }
  const std::shared_ptr<const EncodedMessage> reply =
      EncodeReply(call_id, result);
  VLOG(2) << "call " << call_id << " of " << pipe.peer_name()
          << " is answered: " << result.status();
  if (!result.ok()) pipe.counters().errors.Add();
  if (observer_ != nullptr) {
    observer_->OnReply(pipe.peer_name(), call_id, result.status(),
                       result.ok() ? &*result : nullptr);
  }
  if (reply != nullptr) {
    pipe.Write(reply);
  } else {
    pipe.Fail("a reply to it could not be made");
    OnReplyWritten();
  }
  MutexLock lock(mutex_);
  if (--replies_being_sent_ == 0 && closed_) idle_.NotifyAll();
}

void Server::OnReplyWritten() {
  if (--unwritten_ != 0 || !waits_for_written_) return;
  MutexLock lock(mutex_);
  idle_.NotifyAll();
}

bool Server::WaitUntilWritten(absl::Time deadline) {
  MutexLock lock(mutex_);
  waits_for_written_ = true;
  while (unwritten_ > 0) {
    if (!idle_.WaitUntil(mutex_, deadline)) return unwritten_ == 0;
  }
  return true;
}

void Server::Refuse() {
  MutexLock lock(mutex_);
  closed_ = true;
  while (replies_being_sent_ > 0) {
    idle_.WaitUntil(mutex_, absl::InfiniteFuture());
  }
}

void Server::Close() {
  std::map<uint64_t, std::shared_ptr<ServerPipe>> pipes;
  {
    MutexLock lock(mutex_);
    pipes.swap(pipes_);
  }
  for (const auto& [number, pipe] : pipes) {
    if (pipe->Close() && observer_ != nullptr) {
      observer_->OnPipe("closed", pipe->peer_name(), absl::OkStatus());
    }
  }
}

int64_t Server::num_pipes() {
  MutexLock lock(mutex_);
  return static_cast<int64_t>(pipes_.size());
}

}  // namespace reprise
