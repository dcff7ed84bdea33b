#include "sim/trace/trace_observer.h"

#include "sim/trace/digest.h"

namespace reprise {
namespace {

uint64_t Id(int64_t call_id) { return static_cast<uint64_t>(call_id); }

// Long enough to name a cause, short enough for a line of a story.
std::string_view TextOf(const absl::Status& status) {
  const auto message = status.message();
  return std::string_view(message.data(), message.size()).substr(0, 300);
}

EventKind KindOf(PipeEvent event) {
  switch (event) {
    case PipeEvent::kConnecting:
      return EventKind::kPipeConnecting;
    case PipeEvent::kConnected:
      return EventKind::kPipeConnected;
    case PipeEvent::kAccepted:
      return EventKind::kPipeAccepted;
    case PipeEvent::kFailed:
      return EventKind::kPipeFailed;
    case PipeEvent::kClosed:
      break;
  }
  return EventKind::kPipeClosed;
}

}  // namespace

void TraceObserver::OnCallStarted(WorkerId to, int64_t call_id,
                                  const Message& request, absl::Time deadline) {
  record_(EventKind::kCallStarted, Id(call_id), to, to_ns_(deadline),
          Digest(request), {});
}

void TraceObserver::OnCallCompleted(WorkerId to, int64_t call_id,
                                    const absl::Status& status,
                                    const Message* reply) {
  record_(EventKind::kCallCompleted, Id(call_id), to,
          static_cast<int64_t>(status.code()),
          reply == nullptr ? 0 : Digest(*reply), TextOf(status));
}

void TraceObserver::OnLateReply(WorkerId from, int64_t call_id) {
  record_(EventKind::kCallLateReply, Id(call_id), from, 0, 0, {});
}

void TraceObserver::OnRequest(std::string_view caller, int64_t call_id,
                              const Message& request) {
  record_(EventKind::kRequest, Id(call_id), 0, 0, Digest(request), caller);
}

void TraceObserver::OnReply(std::string_view caller, int64_t call_id,
                            const absl::Status& status, const Message* reply) {
  record_(EventKind::kReply, Id(call_id), 0,
          static_cast<int64_t>(status.code()),
          reply == nullptr ? 0 : Digest(*reply), caller);
}

void TraceObserver::OnPipe(PipeEvent event, std::string_view peer,
                           const absl::Status& status) {
  std::string text(peer);
  if (!status.ok()) text.append(": ").append(TextOf(status));
  record_(KindOf(event), 0, 0, static_cast<int64_t>(status.code()), 0, text);
}

void TraceObserver::OnListening(std::string_view address) {
  record_(EventKind::kListening, 0, 0, 0, 0, address);
}

void TraceObserver::OnListenerFailed(const absl::Status& status) {
  record_(EventKind::kListenerFailed, 0, 0, static_cast<int64_t>(status.code()),
          0, TextOf(status));
}

void TraceObserver::OnBarrierEntered(int64_t barrier) {
  record_(EventKind::kBarrierEntered, Id(barrier), 0, 0, 0, {});
}

void TraceObserver::OnBarrierLeft(int64_t barrier, const absl::Status& status) {
  record_(EventKind::kBarrierLeft, Id(barrier), 0,
          static_cast<int64_t>(status.code()), 0, TextOf(status));
}

void TraceObserver::OnMember(std::string_view name, WorkerId id, bool joined) {
  record_(joined ? EventKind::kMemberJoined : EventKind::kMemberLeft, 0, id, 0,
          0, name);
}

void TraceObserver::OnShutdown() {
  record_(EventKind::kShutdown, 0, 0, 0, 0, {});
}

}  // namespace reprise
