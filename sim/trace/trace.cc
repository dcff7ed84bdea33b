#include "sim/trace/trace.h"

#include <array>
#include <charconv>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sim/random.h"

namespace reprise {
namespace {

constexpr std::array<std::string_view, static_cast<size_t>(EventKind::kCount)>
    kNames = {
        "worker.started",
        "worker.ended",
        "note",
        "check.failed",
        "probe",
        "call.started",
        "call.completed",
        "call.late",
        "request",
        "reply",
        "pipe.connecting",
        "pipe.connected",
        "pipe.failed",
        "pipe.accepted",
        "pipe.closed",
        "listening",
        "listener.failed",
        "barrier.entered",
        "barrier.left",
        "member.joined",
        "member.left",
        "shutdown",
        "net.connect",
        "net.refused",
        "net.accept",
        "send.hello",
        "send.descriptor",
        "send.payload",
        "send.tensor",
        "net.deliver",
        "net.break",
        "store",
        "sched.switch",
        "sched.stall",
        "sched.started",
        "sched.ended",
        "fault",
        "crash",
        "restart",
        "gpu.put",
        "gpu.done",
        "call.retried",
        "memory.read",
        "file",
};
static_assert(!kNames.back().empty());

// The scheduler's events are for the hash and for the raw trace. No check and
// no fault line needs them.
bool IsSchedulers(EventKind kind) {
  return kind >= EventKind::kSwitch && kind <= EventKind::kFiberEnded;
}

// Takes from `rest` what comes before the next blank.
std::string_view NextField(std::string_view& rest) {
  const size_t end = rest.find(' ');
  std::string_view field = rest.substr(0, end);
  rest =
      end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return field;
}

template <typename Int>
bool ParseField(std::string_view& rest, std::string_view name, Int& value,
                int base = 10) {
  std::string_view field = NextField(rest);
  if (field.substr(0, name.size()) != name) return false;
  field.remove_prefix(name.size());
  auto [end, error] =
      std::from_chars(field.data(), field.data() + field.size(), value, base);
  return error == std::errc() && end == field.data() + field.size();
}

}  // namespace

std::string_view ToString(EventKind kind) {
  return kind < EventKind::kCount ? kNames[static_cast<size_t>(kind)] : "?";
}

EventKind EventKindFromString(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<EventKind>(i);
  }
  return EventKind::kCount;
}

std::string ToString(const Event& event) {
  std::string line = absl::StrFormat(
      "t=%d n=%d %s id=%d a=%d b=%d c=%016x", event.time_ns, event.node,
      absl::string_view(ToString(event.kind).data(),
                        ToString(event.kind).size()),
      event.id, event.a, event.b, event.c);
  if (!event.text.empty()) {
    absl::StrAppend(&line, " ", absl::CEscape(event.text));
  }
  return line;
}

bool ParseEvent(std::string_view line, Event& event) {
  std::string_view rest = line;
  if (!ParseField(rest, "t=", event.time_ns)) return false;
  if (!ParseField(rest, "n=", event.node)) return false;
  event.kind = EventKindFromString(NextField(rest));
  if (event.kind == EventKind::kCount) return false;
  if (!ParseField(rest, "id=", event.id) || !ParseField(rest, "a=", event.a) ||
      !ParseField(rest, "b=", event.b) ||
      !ParseField(rest, "c=", event.c, 16)) {
    return false;
  }
  event.text.clear();
  return rest.empty() ||
         absl::CUnescape(absl::string_view(rest.data(), rest.size()),
                         &event.text);
}

Event MakeEvent(int64_t time_ns, int32_t node, const EventDetails& details) {
  return {.time_ns = time_ns,
          .node = node,
          .kind = details.kind,
          .id = details.id,
          .a = details.a(),
          .b = details.b(),
          .c = details.c(),
          .text = std::string(details.text)};
}

void Trace::Record(int64_t time_ns, int32_t node, EventKind kind, uint64_t id,
                   int64_t a, int64_t b, uint64_t c, std::string_view text) {
  if (kind != EventKind::kCallRetried) {
    uint64_t hash = hash_ ^ static_cast<uint64_t>(time_ns);
    hash = HashCombine(hash, (static_cast<uint64_t>(kind) << 32) |
                                 static_cast<uint32_t>(node));
    hash = HashCombine(hash, id + (static_cast<uint64_t>(a) << 20));
    hash = HashCombine(hash, static_cast<uint64_t>(b) ^ c);
    if (!text.empty()) hash = HashCombine(hash, HashBytes(text));
    hash_ = hash;
  }
  ++num_events_;
  const bool tell = !listeners_.empty() && !IsSchedulers(kind);
  if (!keep_events_ && !tell) return;
  const Event event{time_ns, node, kind, id, a, b, c, std::string(text)};
  // The event is kept first: a listener may crash the node whose fiber this
  // runs on, and then does not return.
  if (keep_events_) events_.push_back(event);
  if (tell) {
    for (const Listener& listener : listeners_) listener(event);
  }
}

}  // namespace reprise
