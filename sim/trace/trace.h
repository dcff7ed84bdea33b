// The event log of a run, and the rolling hash over it.
//
// Every view of a run (story, checks) is made from the trace. In the simulator
// the same seed and parameters give the same trace, byte for byte. Processes
// over real transports write the same events, and only their times and their
// order differ from run to run.

#ifndef REPRISE_SIM_TRACE_TRACE_H_
#define REPRISE_SIM_TRACE_TRACE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace reprise {

// The name of each kind (`ToString`) is part of the text form of a trace and of
// fault lines ("crash w1 when w1 call.started#3"). The number of each kind is
// part of the hash. The comments say which details a kind has.
enum class EventKind : uint8_t {
  // A worker's life.
  kWorkerStarted,  // incarnation
  kWorkerEnded,    // incarnation
  kNote,           // text: what the scenario or the service says
  kCheckFailed,    // text: "rule: detail"
  kProbe,          // text: the coverage probe that was reached
  // Calls, as the caller sees them. id: the call's.
  kCallStarted,    // rank: of the callee; deadline_ns; digest; text: label
  kCallCompleted,  // rank: of the callee; code; digest: of the reply; text
  kCallLateReply,  // rank: of the callee
  // Calls, as the callee sees them. id: the call's; text: the caller's name,
  // as it claims it.
  kRequest,  // digest
  kReply,    // code; digest
  // Connections of the agent. text: the peer's name, and why; code.
  kPipeConnecting,
  kPipeConnected,
  kPipeFailed,
  kPipeAccepted,
  kPipeClosed,
  kListening,       // text: the address
  kListenerFailed,  // code; text: why
  // Barriers. id: the barrier's number.
  kBarrierEntered,
  kBarrierLeft,  // code; text: why
  // What a member of a dynamic group learned. rank: the other member's id;
  // text: its name.
  kMemberJoined,
  kMemberLeft,
  kShutdown,
  // The network. id: the connection's.
  kConnect,  // rank: of the listener, -1 for none; text: the address
  kRefused,
  kAccept,  // rank: -1 if the client is the fault `drop-connect`
  // The node is about to send a frame of this phase. frame; num_bytes.
  kSendHello,
  kSendDescriptor,
  kSendPayload,
  kSendTensor,
  kDeliver,  // num_bytes
  kBreak,    // break_kind
  // An operation takes effect in the store. text: the operation and the key.
  kStore,
  // The scheduler. id: the fiber's.
  kSwitch,
  kStall,  // stall_ns
  kFiberStarted,
  kFiberEnded,
  // The world.
  kFault,    // text: the fault that struck
  kCrash,    // incarnation; death
  kRestart,  // incarnation: the new one
  // Simulated GPUs. id: the number of the work on its stream; text: what it is,
  // and its stream.
  kGpuPut,   // num_bytes of a copy: the node puts work on a stream
  kGpuDone,  // code: the work has ended
  // A call is sent again. id: the new attempt's; rank: of the callee; earlier.
  // Not part of the hash: the events of its calls are, and older replay files
  // stay valid.
  kCallRetried,
  // The channel cma. rank: of the worker whose memory was read, -1 if there is
  // none; num_bytes: 0 if that failed
  kCopied,
  // A step of the worker's disk. text: the operation and the file.
  kFile,
  kCount,
};

std::string_view ToString(EventKind kind);

// Returns kCount for a name that no kind has.
EventKind EventKindFromString(std::string_view name);

// How a node ends, as its peers see it.
enum class NodeDeath : uint8_t {
  kReset,     // its connections are reset at once
  kKilled,    // its process ends, and its kernel closes the connections
  kPowerCut,  // nothing is heard of it any more
};

// What is recorded of an event besides its time and its node:
//
//   world.Record(&node, {.kind = EventKind::kStall, .id = fiber,
//                        .stall_ns = ns});
//
// An event carries three numbers besides its id, which its text form calls a, b
// and c. Each detail stands for one of the three, and the comments of
// `EventKind` say which details a kind has. The others stay 0.
struct EventDetails {
  EventKind kind = EventKind::kNote;
  uint64_t id = 0;

  // `a`: at most one of these.
  int64_t rank = 0;
  int64_t incarnation = 0;  // from 0
  int64_t frame = 0;        // its number on the connection, from 0
  int64_t break_kind = 0;   // a BreakKind of sim/network
  int64_t stall_ns = 0;

  // `b`: at most one of these.
  absl::StatusCode code = absl::StatusCode::kOk;
  int64_t deadline_ns = 0;  // of the run's clock; the maximum for none
  int64_t num_bytes = 0;
  NodeDeath death = NodeDeath::kReset;

  // `c`: at most one of these.
  uint64_t digest = 0;   // see digest.h; 0 for none
  uint64_t earlier = 0;  // the id of the first attempt

  std::string_view text = {};

  int64_t a() const {
    return rank + incarnation + frame + break_kind + stall_ns;
  }
  int64_t b() const {
    return static_cast<int64_t>(code) + deadline_ns + num_bytes +
           static_cast<int64_t>(death);
  }
  uint64_t c() const { return digest + earlier; }
};

// An event, as it is kept, written and read.
struct Event {
  int64_t time_ns = 0;  // from the start of the run; virtual in the simulator
  int32_t node = -1;    // rank of the worker; -1: the world
  EventKind kind = EventKind::kNote;
  uint64_t id = 0;
  int64_t a = 0;
  int64_t b = 0;
  uint64_t c = 0;
  std::string text;

  // The numbers by their meaning in events of kinds that have them.
  int32_t rank() const { return static_cast<int32_t>(a); }
  int64_t incarnation() const { return a; }
  int64_t stall_ns() const { return a; }
  absl::StatusCode code() const { return static_cast<absl::StatusCode>(b); }
  bool is_ok() const { return code() == absl::StatusCode::kOk; }
  int64_t deadline_ns() const { return b; }
  int64_t num_bytes() const { return b; }
  NodeDeath death() const { return static_cast<NodeDeath>(b); }
  uint64_t digest() const { return c; }
  uint64_t earlier() const { return c; }
};

Event MakeEvent(int64_t time_ns, int32_t node, const EventDetails& details);

// One line, without the newline:
// "t=12345 n=1 call.started id=3 a=2 b=99 c=00000000000000ff text".
std::string ToString(const Event& event);

// The inverse, for traces that come from other processes. Returns false if
// `line` is not a line of a trace; `event` has no useful value then.
bool ParseEvent(std::string_view line, Event& event);

// The trace of one simulated run. Not thread-safe: a run has one OS thread.
class Trace {
 public:
  // Sees each event as it is recorded, before `Record` returns.
  using Listener = std::function<void(const Event&)>;

  // `keep_events`: keep all events, and not only their hash and number.
  explicit Trace(bool keep_events) : keep_events_(keep_events) {}

  // `listener` sees all events but those of the scheduler (kSwitch to
  // kFiberEnded), of which there are very many.
  void AddListener(Listener listener) {
    listeners_.push_back(std::move(listener));
  }

  // May not return: a listener may crash the node on whose fiber this runs.
  void Record(int64_t time_ns, int32_t node, const EventDetails& details) {
    Record(time_ns, node, details.kind, details.id, details.a(), details.b(),
           details.c(), details.text);
  }

  uint64_t hash() const { return hash_; }
  int64_t num_events() const { return num_events_; }
  const std::vector<Event>& events() const { return events_; }

 private:
  void Record(int64_t time_ns, int32_t node, EventKind kind, uint64_t id,
              int64_t a, int64_t b, uint64_t c, std::string_view text);

  const bool keep_events_;
  uint64_t hash_ = 0;
  int64_t num_events_ = 0;
  std::vector<Event> events_;
  std::vector<Listener> listeners_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_TRACE_TRACE_H_
