// The canonical event log of a run, and the rolling hash over it.
//
// Every view of a run (story, timeline, checks) is made from it. The same seed
// and parameters give the same trace, byte for byte.

#ifndef REPRISE_SIM_TRACE_TRACE_H_
#define REPRISE_SIM_TRACE_TRACE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace reprise {

// The names in `ToString` are part of the trace's text form and of fault
// triggers ("crash w1 at call.started#3").
enum class EventKind : uint8_t {
  // A worker's life. subject: worker.
  kWorkerStarted,  // a: incarnation, from 0
  kWorkerEnded,    // a: incarnation
  kNote,           // text: what the scenario says
  kCheckFailed,    // text: "rule: detail"
  kProbe,          // text: the probe that was reached
  // Calls, seen by the caller. id: call id.
  kCallStarted,    // a: callee's rank, b: deadline (ns, max: never), c: digest
  kCallCompleted,  // a: callee's rank, b: absl status code, c: reply's digest
  kCallLateReply,  // a: callee's rank
  // Calls, seen by the callee. id: call id; text: the caller's claimed name.
  kRequest,  // c: digest
  kReply,    // b: absl status code, c: digest
  // Connections of the agent. text: peer, and why.
  kPipeConnecting,
  kPipeConnected,
  kPipeFailed,
  kPipeAccepted,
  kPipeClosed,
  kListening,  // text: address
  kListenerFailed,
  // Barriers. id: barrier number.
  kBarrierEntered,
  kBarrierLeft,  // b: absl status code
  // What a member of a dynamic group learned. a: id, text: name.
  kMemberJoined,
  kMemberLeft,
  kShutdown,
  // The network. id: connection, a: frame number, b: bytes.
  kConnect,
  kRefused,
  kAccept,
  kSendHello,
  kSendDescriptor,
  kSendPayload,
  kSendTensor,
  kDeliver,
  kBreak,
  // The store. text: operation and key, b: status code.
  kStore,
  // The scheduler. id: fiber.
  kSwitch,
  kStall,  // a: ns
  kFiberStarted,
  kFiberEnded,
  // The world.
  kFault,  // text: the fault that struck
  kCrash,
  kRestart,
  kCount,
};

std::string_view ToString(EventKind kind);

// Returns kCount for a name that there is not.
EventKind EventKindFromString(std::string_view name);

// Digest of a message as kept in call events: 0 for none.
struct Event {
  int64_t time_ns = 0;  // virtual, from the start of the run
  int32_t node = -1;    // rank of the worker; -1: the world
  EventKind kind = EventKind::kNote;
  uint64_t id = 0;
  int64_t a = 0;
  int64_t b = 0;
  uint64_t c = 0;
  std::string text;
};

// One line, without the newline: "12.345678901 w1 call.started id=3 ...".
std::string ToString(const Event& event);

// The inverse, for traces that come from other processes. False: not a line
// of a trace.
bool ParseEvent(std::string_view line, Event& event);

// Not thread-safe: one run, one OS thread.
class Trace {
 public:
  // Sees each event as it is recorded, before it returns.
  using Listener = std::function<void(const Event&)>;

  // Whether to keep the events (else only the hash and the count).
  explicit Trace(bool keep_events) : keep_events_(keep_events) {}

  // `listener` sees kinds below `limit` only, i.e. not the ones of the
  // scheduler unless asked for.
  void AddListener(Listener listener) {
    listeners_.push_back(std::move(listener));
  }

  // `text` costs a hash of its bytes; the events of the scheduler and the
  // network have none.
  void Record(int64_t time_ns, int32_t node, EventKind kind, uint64_t id = 0,
              int64_t a = 0, int64_t b = 0, uint64_t c = 0,
              std::string_view text = {});

  uint64_t hash() const { return hash_; }
  int64_t num_events() const { return num_events_; }
  const std::vector<Event>& events() const { return events_; }

 private:
  const bool keep_events_;
  uint64_t hash_ = 0;
  int64_t num_events_ = 0;
  std::vector<Event> events_;
  std::vector<Listener> listeners_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_TRACE_TRACE_H_
