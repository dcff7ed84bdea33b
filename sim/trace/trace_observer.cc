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

uint64_t TraceObserver::DigestOf(const Message* message) const {
  return message == nullptr ? 0 : Digest(*message, with_elements_);
}

void TraceObserver::OnCallStarted(WorkerId to, int64_t call_id,
                                  const Message& request, absl::Time deadline,
                                  std::string_view label) {
  record_({.kind = EventKind::kCallStarted,
           .id = Id(call_id),
           .rank = to,
           .deadline_ns = to_ns_(deadline),
           .digest = DigestOf(&request),
           .text = label});
}

void TraceObserver::OnCallCompleted(WorkerId to, int64_t call_id,
                                    const absl::Status& status,
                                    const Message* reply) {
  record_({.kind = EventKind::kCallCompleted,
           .id = Id(call_id),
           .rank = to,
           .code = status.code(),
           .digest = DigestOf(reply),
           .text = TextOf(status)});
}

void TraceObserver::OnCallRetried(WorkerId to, int64_t call_id,
                                  int64_t first_call_id) {
  record_({.kind = EventKind::kCallRetried,
           .id = Id(call_id),
           .rank = to,
           .earlier = Id(first_call_id)});
}

void TraceObserver::OnLateReply(WorkerId from, int64_t call_id) {
  record_({.kind = EventKind::kCallLateReply, .id = Id(call_id), .rank = from});
}

void TraceObserver::OnRequest(std::string_view caller, int64_t call_id,
                              const Message& request) {
  record_({.kind = EventKind::kRequest,
           .id = Id(call_id),
           .digest = DigestOf(&request),
           .text = caller});
}

void TraceObserver::OnReply(std::string_view caller, int64_t call_id,
                            const absl::Status& status, const Message* reply) {
  record_({.kind = EventKind::kReply,
           .id = Id(call_id),
           .code = status.code(),
           .digest = DigestOf(reply),
           .text = caller});
}

void TraceObserver::OnPipe(PipeEvent event, std::string_view peer,
                           const absl::Status& status) {
  std::string text(peer);
  if (!status.ok()) text.append(": ").append(TextOf(status));
  record_({.kind = KindOf(event), .code = status.code(), .text = text});
}

void TraceObserver::OnListening(std::string_view address) {
  record_({.kind = EventKind::kListening, .text = address});
}

void TraceObserver::OnListenerFailed(const absl::Status& status) {
  record_({.kind = EventKind::kListenerFailed,
           .code = status.code(),
           .text = TextOf(status)});
}

void TraceObserver::OnBarrierEntered(int64_t barrier) {
  record_({.kind = EventKind::kBarrierEntered, .id = Id(barrier)});
}

void TraceObserver::OnBarrierLeft(int64_t barrier, const absl::Status& status) {
  record_({.kind = EventKind::kBarrierLeft,
           .id = Id(barrier),
           .code = status.code(),
           .text = TextOf(status)});
}

void TraceObserver::OnMember(std::string_view name, WorkerId id, bool joined) {
  record_({.kind = joined ? EventKind::kMemberJoined : EventKind::kMemberLeft,
           .rank = id,
           .text = name});
}

void TraceObserver::OnShutdown() { record_({.kind = EventKind::kShutdown}); }

void TraceObserver::OnNote(std::string_view text) {
  record_({.kind = EventKind::kNote, .text = text});
}

}  // namespace reprise
