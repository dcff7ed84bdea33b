#include "agent/server/server.h"

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/call_error.h"
#include "agent/planted.h"
#include "agent/wire/call_extras.h"
#include "agent/wire/message_codec.h"
#include "agent/wire/rpc_error.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// The shortest time between two checks of the pipes.
constexpr absl::Duration kMinCheckPause = absl::Milliseconds(10);

}  // namespace

Server::Server(Runtime& runtime, Timer& timer, ThreadPool& workers,
               std::shared_ptr<Activity> activity, Metrics& metrics,
               Observer* observer, RequestHandler handler,
               const WorkerDirectory& workers_in_group, const Options& options)
    : runtime_(runtime),
      timer_(timer),
      workers_(workers),
      activity_(std::move(activity)),
      metrics_(metrics),
      observer_(observer),
      handler_(std::move(handler)),
      workers_in_group_(workers_in_group),
      options_(options),
      admission_(std::make_shared<Admission>(runtime, workers, options.bounds)),
      idempotent_(runtime, options.idempotency),
      mutex_(runtime, "Server"),
      idle_(runtime, "Server.idle"),
      watch_(runtime, timer, [this](absl::Time now, bool late) {
        return CheckLives(now, late);
      }) {}

void Server::AddPipe(const std::shared_ptr<tensorpipe::Pipe>& pipe) {
  absl::StatusOr<Admission::PeerPtr> admitted =
      admission_->Connect(ServerPipe::PeerName(*pipe));
  if (!admitted.ok()) {
    // The first, second, fourth, eighth, ... refusal is logged, so that a flood
    // of connections does not become a flood of lines.
    const int64_t refused = admission_->refused().connections;
    LOG_IF(WARNING, (refused & (refused - 1)) == 0)
        << "a connection from " << ServerPipe::PeerName(*pipe)
        << " is refused: " << admitted.status().message() << "; " << refused
        << " were refused so far";
    pipe->close();
    return;
  }
  std::shared_ptr<ServerPipe> accepted;
  {
    MutexLock lock(mutex_);
    if (!closed_) {
      const uint64_t number = next_pipe_++;
      accepted = std::make_shared<ServerPipe>(
          runtime_, timer_, *this, *activity_, metrics_, number, pipe,
          options_.limits, options_.arrivals, *admitted,
          options_.bounds.unwritten_per_peer.calls);
      pipes_.emplace(number, accepted);
    }
  }
  if (accepted == nullptr) {
    admission_->Disconnect(**admitted);
    pipe->close();
    return;
  }
  VLOG(1) << "pipe " << accepted->number() << " accepted from "
          << accepted->peer_name();
  if (observer_ != nullptr) {
    observer_->OnPipe(PipeEvent::kAccepted, accepted->peer_name(),
                      absl::OkStatus());
  }
  accepted->Start(options_.connect_timeout);
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
  if (forgotten != nullptr) admission_->Disconnect(*pipe.admitted());
  if (observer_ != nullptr) {
    observer_->OnPipe(PipeEvent::kFailed, pipe.peer_name(), status);
  }
}

void Server::OnPipeMessage(std::shared_ptr<ServerPipe> pipe,
                           IncomingMessage message) {
  if (!IsRequest(message.type())) {
    pipe->Fail("it sent what is no request");
    return;
  }
  if (message.type() == kControlRequest) {
    HandleControl(*pipe, std::move(message));
    return;
  }
  const absl::Time now = runtime_.Now();
  absl::Time deadline = absl::InfiniteFuture();
  CallExtras extras;
  if (!message.metadata().empty()) {
    absl::StatusOr<CallExtras> decoded = DecodeExtras(message.metadata());
    if (!decoded.ok()) {
      pipe->Fail(std::string(decoded.status().message()));
      return;
    }
    pipe->NoteKnowsLaterTypes();
    extras = *std::move(decoded);
    deadline = now + extras.remaining;
    if (REPRISE_PLANTED(absolute_deadline)) {
      deadline -= (now - absl::UnixEpoch()) % absl::Hours(24);
    }
    if (REPRISE_PLANTED(idempotency_ignored)) extras.idempotency_key.clear();
  }
  pipe->counters().calls.Add();
  pipe->counters().received_bytes.Add(
      static_cast<int64_t>(message.num_bytes()));
  const int64_t id = message.id();
  VLOG(2) << "call " << id << " of " << pipe->peer_name() << " came";
  pipe->StartCall(id, extras.wants_reply_id);
  const size_t num_bytes = message.num_bytes();
  const absl::Status queued = admission_->Enqueue(
      pipe->admitted(), num_bytes,
      [self = shared_from_this(),
       request =
           Request{pipe, std::move(message), now, deadline, std::move(extras),
                   activity_->StartRequest()}](Admission::Slot slot) mutable {
        Activity::Token handler = std::move(request.tokens.handler);
        {
          // Both let others go on when they are destroyed. Of parameters, a
          // compiler chooses which is destroyed first.
          Admission::Slot held = std::move(slot);
          Request taken = std::move(request);
          self->Handle(std::move(taken), std::move(held));
        }
        handler.Release();
      });
  if (!queued.ok()) RefuseRequest(*pipe, id, queued);
}

void Server::HandleControl(ServerPipe& pipe, IncomingMessage message) {
  const int64_t id = message.id();
  const absl::StatusOr<DecodedMessage> decoded = std::move(message).Decode();
  const absl::StatusOr<Control> control =
      decoded.ok() ? DecodeControl(decoded->message.payload) : decoded.status();
  if (!control.ok()) {
    pipe.Fail(std::string(control.status().message()));
    return;
  }
  pipe.NoteKnowsLaterTypes();
  if (control->kind == Control::Kind::kCancel) {
    pipe.CancelCall(control->call_id);
    return;
  }
  // A statement of its own: it takes a lock, so it may take time.
  const absl::Duration pause = pipe.ExpectSigns(control->bound);
  watch_.Expect(runtime_.Now() + pause);
  Message pong;
  pong.type = kControlResponse;
  pong.payload = EncodePong(options_.instance);
  const auto encoded = Encode(std::move(pong), id);
  if (encoded.ok()) Write(pipe, *encoded);
}

absl::Time Server::CheckLives(absl::Time now, bool late) {
  std::vector<std::shared_ptr<ServerPipe>> pipes;
  {
    MutexLock lock(mutex_);
    for (const auto& [number, pipe] : pipes_) pipes.push_back(pipe);
  }
  absl::Time next = absl::InfiniteFuture();
  for (const std::shared_ptr<ServerPipe>& pipe : pipes) {
    next = std::min(next, pipe->CheckLiveness(now, late));
  }
  return std::max(next, now + kMinCheckPause);
}

bool Server::StartRun(const Request& request,
                      std::shared_ptr<IdempotentCalls::Run>& run) {
  const int64_t id = request.message.id();
  absl::StatusOr<IdempotentCalls::Begun> begun = idempotent_.Begin(
      request.pipe->peer_name(), request.extras, {request.pipe, id});
  if (!begun.ok()) {
    ++num_refused_keys_;
    RefuseRequest(*request.pipe, id, begun.status());
    return false;
  }
  run = std::move(begun->run);
  if (run != nullptr) return true;
  if (begun->answer.encoded != nullptr && StartSending()) {
    WriteAnswer(*request.pipe, id, begun->answer);
    EndSending();
  }
  return false;
}

void Server::Handle(Request&& request, Admission::Slot&& slot) {
  {
    MutexLock lock(mutex_);
    if (closed_ && !REPRISE_PLANTED(callback_after_shutdown)) return;
  }
  const int64_t id = request.message.id();
  if ((request.deadline != absl::InfiniteFuture() &&
       runtime_.Now() >= request.deadline) ||
      request.pipe->WasCancelled(id)) {
    VLOG(1) << "call " << id << " from " << request.pipe->peer_name()
            << " is dropped: its caller has given up";
    request.pipe->Drop(id);
    ++num_abandoned_;
    return;
  }
  std::shared_ptr<IdempotentCalls::Run> run;
  RequestInfo info{request.pipe->peer_name(), id, request.deadline,
                   request.pipe, request.arrived};
  if (!request.extras.idempotency_key.empty()) {
    if (!StartRun(request, run)) return;
    info.deadline = absl::InfiniteFuture();
    info.source = run;
  }
  // Let go before the handler runs.
  std::shared_ptr<ServerPipe> pipe = request.pipe;
  const auto reply = std::make_shared<PendingReply>(
      shared_from_this(), std::move(request.pipe), id, std::move(run),
      std::move(request.tokens.reply), std::move(slot));
  ReplyRoute route{.map = request.extras.way_back.empty()
                              ? request.message.way_back()
                              : std::move(request.extras.way_back)};
  absl::StatusOr<DecodedMessage> decoded = std::move(request.message).Decode();
  if (!decoded.ok()) {
    if (REPRISE_PLANTED(oversized_fails_all)) {
      pipe->Fail("a message was too large");
    }
    absl::Status refusal(
        decoded.status().code(),
        absl::StrCat("cannot read the request: ", decoded.status().message()));
    // A request that is too large would be too large again. As an answer of the
    // handler it is not retried.
    reply->Answer(IsTooLarge(decoded.status())
                      ? std::move(refusal)
                      : RefusedByAgent(std::move(refusal)));
    return;
  }
  for (const Tensor& tensor : decoded->message.tensors) {
    if (IsLaterType(tensor.dtype)) pipe->NoteKnowsLaterTypes();
  }
  pipe.reset();
  if (options_.router != nullptr) {
    options_.router->AddStreams(decoded->message.streams);
  }
  if (REPRISE_PLANTED(gpu_handler_no_streams)) {
    decoded->message.streams = StreamSet();
  }
  route.streams = decoded->message.streams;
  reply->SetRoute(std::move(route));
  if (observer_ != nullptr) {
    observer_->OnRequest(info.caller, info.call_id, decoded->message);
  }
  RunHandler(std::move(decoded->message), info, reply);
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

absl::StatusOr<std::shared_ptr<const EncodedMessage>> Server::EncodeResult(
    ServerPipe& pipe, int64_t call_id, const ReplyRoute& route,
    absl::StatusOr<Message>& result) {
  if (!result.ok()) return result.status();
  if (!IsResponse(result->type)) {
    return absl::InternalError(absl::StrCat(
        "the handler answered with a message of type ",
        static_cast<int32_t>(result->type), ", which is no response"));
  }
  Route way{.map = &route.map,
            .peer = pipe.peer_name(),
            .otherwise_ready = route.streams};
  if (REPRISE_PLANTED(gpu_reply_no_wait)) {
    result->streams = way.otherwise_ready = StreamSet();
  }
  // The observer needs the message as well.
  absl::StatusOr<std::shared_ptr<const EncodedMessage>> encoded =
      observer_ == nullptr
          ? Encode(*std::move(result), call_id, options_.limits, way)
          : Encode(*result, call_id, options_.limits, way);
  if (!encoded.ok()) return encoded;
  if ((*encoded)->later_type().has_value() && !pipe.knows_later_types() &&
      !options_.stock_workers_know_later_types) {
    return LaterTypeError(*(*encoded)->later_type(), pipe.peer_name());
  }
  absl::Status channels = pipe.CheckChannels(**encoded);
  if (!channels.ok()) return channels;
  return encoded;
}

std::shared_ptr<const EncodedMessage> Server::EncodeReply(
    ServerPipe& pipe, int64_t call_id, const ReplyRoute& route,
    absl::StatusOr<Message>& result) {
  absl::StatusOr<std::shared_ptr<const EncodedMessage>> encoded =
      EncodeResult(pipe, call_id, route, result);
  if (encoded.ok()) return *std::move(encoded);
  result = encoded.status();
  Message exception;
  exception.type = MessageType::kException;
  exception.payload =
      ExceptionPayload(workers_in_group_.self_id(), result.status());
  encoded = Encode(std::move(exception), call_id);
  return encoded.ok() ? *std::move(encoded) : nullptr;
}

bool Server::StartSending() {
  MutexLock lock(mutex_);
  if (closed_) return false;
  ++replies_being_sent_;
  return true;
}

void Server::EndSending() {
  MutexLock lock(mutex_);
  if (--replies_being_sent_ == 0 && closed_) idle_.NotifyAll();
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
  {
    MutexLock lock(mutex_);
    closed_ = true;
    while (replies_being_sent_ > 0) {
      idle_.WaitUntil(mutex_, absl::InfiniteFuture());
    }
  }
  idempotent_.Stop();
  if (!REPRISE_PLANTED(callback_after_shutdown)) admission_->Close();
}

void Server::RefuseRequest(ServerPipe& pipe, int64_t call_id,
                           const absl::Status& status) {
  if (!StartSending()) return;
  VLOG(1) << "call " << call_id << " of " << pipe.peer_name()
          << " is refused: " << status;
  pipe.counters().errors.Add();
  if (observer_ != nullptr) {
    observer_->OnReply(pipe.peer_name(), call_id, status, nullptr);
  }
  Message refusal;
  refusal.type = MessageType::kException;
  refusal.payload = RefusalPayload(workers_in_group_.self_id(), status);
  const absl::StatusOr<std::shared_ptr<const EncodedMessage>> encoded =
      Encode(std::move(refusal), call_id);
  if (encoded.ok()) Write(pipe, *encoded);
  EndSending();
}

void Server::SendReply(ServerPipe& pipe, int64_t call_id,
                       const std::shared_ptr<IdempotentCalls::Run>& run,
                       const ReplyRoute& route,
                       absl::StatusOr<Message> result) {
  if (!StartSending()) return;
  std::shared_ptr<const EncodedMessage> encoded =
      EncodeReply(pipe, call_id, route, result);
  VLOG(2) << "call " << call_id << " of " << pipe.peer_name()
          << " is answered: " << result.status();
  if (!result.ok()) pipe.counters().errors.Add();
  if (run == nullptr) {
    if (observer_ != nullptr) {
      observer_->OnReply(pipe.peer_name(), call_id, result.status(),
                         result.ok() ? &*result : nullptr);
    }
    if (encoded != nullptr) {
      Write(pipe, std::move(encoded));
    } else {
      pipe.Fail("a reply to it could not be made");
    }
  } else {
    const bool remember = result.ok() || (!IsMayRunAgain(result.status()) &&
                                          !IsRefusedByAgent(result.status()));
    IdempotentCalls::Answer answer{std::move(encoded), nullptr};
    if (observer_ != nullptr) {
      answer.shown =
          std::make_shared<const absl::StatusOr<Message>>(std::move(result));
    }
    for (const IdempotentCalls::Attempt& attempt :
         idempotent_.Finish(run, answer, remember)) {
      WriteAnswer(*attempt.pipe, attempt.call_id, answer);
    }
  }
  EndSending();
}

void Server::WriteAnswer(ServerPipe& pipe, int64_t call_id,
                         const IdempotentCalls::Answer& answer) {
  if (answer.encoded != nullptr) {
    // Not every connection of the caller need have the same channels.
    absl::Status channels = pipe.CheckChannels(*answer.encoded);
    if (!channels.ok()) return RefuseRequest(pipe, call_id, channels);
  }
  if (answer.shown != nullptr) {
    observer_->OnReply(pipe.peer_name(), call_id, answer.shown->status(),
                       answer.shown->ok() ? &**answer.shown : nullptr);
  }
  if (answer.encoded != nullptr) Write(pipe, WithId(answer.encoded, call_id));
}

void Server::Write(ServerPipe& pipe,
                   std::shared_ptr<const EncodedMessage> reply) {
  ++unwritten_;
  admission_->ReplyStarted(*pipe.admitted(), reply->num_bytes());
  pipe.Write(std::move(reply));
}

void Server::OnReplyWritten(ServerPipe& pipe, size_t num_bytes) {
  admission_->ReplyEnded(*pipe.admitted(), num_bytes);
  if (--unwritten_ != 0 || !waits_for_written_) return;
  MutexLock lock(mutex_);
  idle_.NotifyAll();
}

void Server::Close() {
  watch_.Close();
  std::map<uint64_t, std::shared_ptr<ServerPipe>> pipes;
  {
    MutexLock lock(mutex_);
    pipes.swap(pipes_);
  }
  idempotent_.Clear();
  for (const auto& [number, pipe] : pipes) {
    admission_->Disconnect(*pipe->admitted());
    if (pipe->Close() && observer_ != nullptr) {
      observer_->OnPipe(PipeEvent::kClosed, pipe->peer_name(),
                        absl::OkStatus());
    }
  }
}

int64_t Server::num_pipes() {
  MutexLock lock(mutex_);
  return static_cast<int64_t>(pipes_.size());
}

}  // namespace reprise
