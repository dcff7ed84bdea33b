// The way of a call from `Agent::Send` to the pipe of the peer.

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "agent/agent_impl.h"
#include "agent/call_error.h"
#include "agent/planted.h"
#include "agent/wire/call_extras.h"
#include "agent/wire/message_codec.h"
#include "agent/wire/rpc_error.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// A part of the machine's own time, which no library is asked for, for the
// planted defect `stray_clock`.
absl::Duration StrayClock() {
#if defined(REPRISE_WITH_PLANTED_DEFECTS) && defined(__x86_64__)
  return absl::Nanoseconds(__builtin_ia32_rdtsc() % 1000);
#else
  return absl::ZeroDuration();
#endif
}

// Null when the agent's allocator is to say where the reply lies.
std::shared_ptr<ReplyMemory> MemoryOf(const CallOptions& options) {
  if (options.receive_into.storages.empty()) return nullptr;
  return std::make_shared<ReplyMemory>(options.receive_into);
}

// About what a message takes, before it is encoded.
size_t NumBytes(const Message& message) {
  size_t bytes = message.payload.size();
  for (const Tensor& tensor : message.tensors) {
    if (tensor.storage == nullptr) continue;
    // A view of a small part of its storage is copied, so only the view counts.
    const size_t whole = tensor.storage->num_bytes();
    const auto elements = static_cast<size_t>(tensor.num_elements());
    bytes += std::min(whole, std::min(elements, whole) * SizeOf(tensor.dtype));
  }
  return bytes;
}

}  // namespace

Future Agent::Impl::Refuse(absl::Status status, const CallOptions& options) {
  metrics_.refused_calls.Add();
  status = WithCallError(std::move(status), CallErrorSource::kCaller,
                         /*may_have_run=*/false);
  return Future::Ready(runtime_, WithLabel(std::move(status), options.label));
}

Future Agent::Impl::RefuseForGood(absl::Status status,
                                  const CallOptions& options) {
  return Refuse(
      WithCallError(std::move(status), {.source = CallErrorSource::kCaller,
                                        .may_have_run = false,
                                        .retry_may_help = false}),
      options);
}

absl::StatusOr<absl::Duration> Agent::Impl::CheckCall(
    const Message& request, const CallOptions& options) const {
  if (!IsRequest(request.type) || request.type == kControlRequest) {
    return absl::InvalidArgumentError(
        absl::StrCat("a message of type ", static_cast<int32_t>(request.type),
                     " is not a request"));
  }
  if (options.idempotency_key.size() > kMaxIdempotencyKey) {
    return absl::InvalidArgumentError(
        absl::StrCat("an idempotency key has at most ", kMaxIdempotencyKey,
                     " bytes, got ", options.idempotency_key.size()));
  }
  if (absl::Status status = ValidateLabel(options.label); !status.ok()) {
    return status;
  }
  if (absl::Status status = Validate(options.receive_into); !status.ok()) {
    return status;
  }
  if (!options.device_map.empty()) {
    absl::Status status =
        ValidateDevices({{workers_.self().name,
                          {{{"this call", options.device_map}},
                           options_.devices,
                           options_.device_count}}});
    if (!status.ok()) return status;
  }
  const absl::Duration timeout =
      options.timeout == kUnsetTimeout ? options_.rpc_timeout : options.timeout;
  if (timeout < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a call's timeout must not be negative, got ",
                     absl::FormatDuration(timeout)));
  }
  return timeout == absl::ZeroDuration() ? absl::InfiniteDuration() : timeout;
}

absl::Status Agent::Impl::Explain(absl::Status status, MessageType type) const {
  if (!absl::IsFailedPrecondition(status)) return status;
  return absl::FailedPreconditionError(absl::StrCat(
      "Node ", workers_.self().id, "tried to send() a message of type ",
      static_cast<int32_t>(type),
      " but RPC is no longer running on this node."));
}

absl::Time Agent::Impl::LatestEnd(const CallOptions& options) const {
  return options.detached || REPRISE_PLANTED(nested_outlives)
             ? options.deadline
             : std::min(options.deadline, gate_->CurrentDeadline());
}

Route Agent::Impl::RouteTo(const MemberPtr& to,
                           const CallOptions& options) const {
  return {.map = options.device_map.empty() ? router_.MapTo(to->name)
                                            : &options.device_map,
          .peer = to->name};
}

Future Agent::Impl::RefuseLate(const CallOptions& options) {
  return Refuse(
      WithCallError(
          RpcErrorStatus(RpcErrorType::kTimeout,
                         "the deadline of the call, or of the request that it "
                         "serves, has passed before it was made"),
          {.source = CallErrorSource::kDeadline,
           .may_have_run = false,
           .retry_may_help = false}),
      options);
}

Agent::Impl::Times Agent::Impl::StartNow(absl::Duration timeout,
                                         absl::Time latest_end) {
  const absl::Time now = runtime_.Now();
  Times times{.start = now,
              .deadline = now + timeout,  // infinite if it is
              .timeout = timeout};
  if (latest_end < times.deadline) {
    times.deadline = latest_end;
    times.timeout = latest_end - now;
  }
  if (REPRISE_PLANTED(stray_clock)) times.deadline += StrayClock();
  return times;
}

Future Agent::Impl::Send(const MemberPtr& to, Message request,
                         const CallOptions& options,
                         std::function<void()> on_written) {
  const absl::StatusOr<absl::Duration> timeout = CheckCall(request, options);
  if (!timeout.ok()) return Refuse(timeout.status(), options);
  const Times times = StartNow(*timeout, LatestEnd(options));
  if (times.deadline <= times.start) return RefuseLate(options);
  CallTable::ReserveOptions reserve;
  reserve.num_bytes = NumBytes(request);
  if (options_.when_full == WhenFull::kBlock &&
      !callback_pool_.IsCurrentThread()) {
    reserve.wait_until = times.deadline;
  }
  absl::StatusOr<CallTable::Reservation> call = calls_->Reserve(*to, reserve);
  if (!call.ok()) return Refuse(Explain(call.status(), request.type), options);
  const int64_t id = call->id();
  Message shown;
  if (observer_ != nullptr) shown = request;
  if (REPRISE_PLANTED(gpu_request_no_wait)) request.streams = StreamSet();
  if (REPRISE_PLANTED(gpu_guard_dropped)) {
    shown.release_guard = request.release_guard = nullptr;
  }
  absl::StatusOr<std::shared_ptr<const EncodedMessage>> encoded =
      Encode(std::move(request), id, limits_, RouteTo(to, options));
  if (!encoded.ok()) {
    if (REPRISE_PLANTED(orphan_call)) {
      if (const auto pipe = peers_.Acquire(to); pipe.ok()) {
        PlantedAccess::EnterOrphan(*calls_, call->to(), call->id(),
                                   (*pipe)->generation());
      }
    }
    return RefuseForGood(encoded.status(), options);
  }
  return Dispatch(to, *std::move(call), *std::move(encoded), shown, options,
                  MemoryOf(options), times, std::move(on_written));
}

Future Agent::Impl::Dispatch(const MemberPtr& to, CallTable::Reservation call,
                             std::shared_ptr<const EncodedMessage> encoded,
                             const Message& request, const CallOptions& options,
                             std::shared_ptr<ReplyMemory> memory,
                             const Times& times,
                             std::function<void()> on_written) {
  const int64_t id = call.id();
  absl::StatusOr<std::shared_ptr<ClientPipe>> pipe =
      PeersFor(*encoded, options.lane).Acquire(to);
  if (!pipe.ok()) {
    return Refuse(
        absl::IsFailedPrecondition(pipe.status())
            ? pipe.status()
            : WithCallError(pipe.status(), CallErrorSource::kTransport,
                            /*may_have_run=*/false),
        options);
  }
  if (observer_ != nullptr) {
    observer_->OnCallStarted(to->id, id, request, times.deadline,
                             options.label);
  }
  const bool wants_reply_id = memory != nullptr;
  PeerCounters& counters = (*pipe)->counters();
  counters.calls.Add();
  VLOG(2) << "call " << id << (options.label.empty() ? "" : " ")
          << options.label << " to " << to->name << " starts";
  Future future = calls_->Enter(std::move(call), (*pipe)->generation(),
                                times.deadline, times.timeout,
                                {.metrics = {.peer = &counters,
                                             .type = encoded->type(),
                                             .started = times.start},
                                 .label = options.label,
                                 .memory = std::move(memory)});
  absl::Status status =
      (*pipe)->Write({.message = std::move(encoded),
                      .deadline = times.deadline,
                      .idempotency_key = options.idempotency_key,
                      .wants_reply_id = wants_reply_id,
                      .on_written = std::move(on_written)});
  if (!status.ok()) {
    calls_->Complete(
        to->id, id,
        WithCallError(std::move(status), CallErrorSource::kTransport,
                      /*may_have_run=*/false));
  }
  return future;
}

Future Agent::Impl::SendAttempt(
    const MemberPtr& to, const std::shared_ptr<const EncodedMessage>& encoded,
    const Message& request, const CallOptions& options,
    const std::shared_ptr<ReplyMemory>& memory, absl::Duration timeout,
    std::optional<int64_t>& first_id) {
  CallTable::ReserveOptions reserve;
  reserve.num_bytes = encoded->num_bytes();
  reserve.is_attempt = true;
  absl::StatusOr<CallTable::Reservation> call = calls_->Reserve(*to, reserve);
  if (!call.ok()) return Refuse(Explain(call.status(), request.type), options);
  const bool is_retry = first_id.has_value();
  if (!is_retry) first_id = call->id();
  if (is_retry && observer_ != nullptr) {
    observer_->OnCallRetried(to->id, call->id(), *first_id);
  }
  std::shared_ptr<const EncodedMessage> again = WithId(encoded, call->id());
  if (is_retry && REPRISE_PLANTED(retry_emptied_message)) {
    Message emptied;
    emptied.type = encoded->type();
    again = *Encode(std::move(emptied), call->id());
  }
  CallOptions keyless;
  if (is_retry && REPRISE_PLANTED(retry_without_key)) {
    keyless = options;
    keyless.idempotency_key.clear();
  }
  return Dispatch(
      to, *std::move(call), std::move(again), request,
      is_retry && REPRISE_PLANTED(retry_without_key) ? keyless : options,
      memory, StartNow(timeout, options.deadline),
      /*on_written=*/nullptr);
}

Future Agent::Impl::SendWithRetries(const MemberPtr& to, Message request,
                                    const CallOptions& options,
                                    const RetryOptions& retry) {
  const absl::StatusOr<absl::Duration> timeout = CheckCall(request, options);
  if (!timeout.ok()) return Refuse(timeout.status(), options);
  if (absl::Status status = Validate(retry); !status.ok()) {
    return Refuse(std::move(status), options);
  }
  // `LatestEnd` is asked here, because it depends on the calling thread and
  // attempts are made on other threads.
  CallOptions of_attempts = options;
  of_attempts.receive_into = {};
  const absl::Time now = runtime_.Now();
  of_attempts.deadline =
      std::min(LatestEnd(options), now + retry.total_timeout);
  if (of_attempts.deadline <= now) return RefuseLate(options);
  Message shown;
  if (observer_ != nullptr) shown = request;
  absl::StatusOr<std::shared_ptr<const EncodedMessage>> encoded =
      Encode(std::move(request), /*id=*/0, limits_, RouteTo(to, options));
  if (!encoded.ok()) return RefuseForGood(encoded.status(), options);
  return retrier_->Start(
      retry, of_attempts.deadline,
      [this, to, encoded = *std::move(encoded), shown = std::move(shown),
       options = of_attempts, memory = MemoryOf(options), timeout = *timeout,
       first_id = std::optional<int64_t>()](bool is_retry) mutable {
        if (!is_retry) {
          return SendAttempt(to, encoded, shown, options, memory, timeout,
                             first_id);
        }
        // The worker may have left meanwhile, and joined again.
        const MemberPtr now = workers_.Find(to->name);
        if (now == nullptr) {
          return Refuse(WithCallError(absl::UnavailableError(absl::StrCat(
                                          to->name, " has left the group")),
                                      CallErrorSource::kTransport,
                                      /*may_have_run=*/false),
                        options);
        }
        return SendAttempt(now, encoded, shown, options, memory, timeout,
                           first_id);
      },
      activity_->StartCall(), options.label);
}

Future Agent::Impl::SendOneWay(const MemberPtr& to, Message request,
                               const CallOptions& options) {
  // Completed by whichever comes first: the message has been written, or the
  // call has ended without that. An answer that comes later changes nothing.
  const auto written =
      std::make_shared<Promise>(runtime_, ExecutorOf(callback_pool_), nullptr);
  Future result = written->future();
  const Future call = Send(to, std::move(request), options,
                           [written] { written->Complete(Message()); });
  call.Then([written,
             &failures = metrics_.one_way_failures](const Future::Result& end) {
    if (!end.ok()) failures.Add();
    written->Complete(end.ok() ? Future::Result(Message()) : end.status());
  });
  return result;
}

}  // namespace reprise
