#include "sim/view/words.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <limits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fault_injection/fault_kind.h"

namespace reprise {
namespace {

std::string CodeName(const Event& event) {
  return absl::StatusCodeToString(event.code());
}

// " OK", or " UNAVAILABLE why".
std::string Outcome(const Event& event) {
  return absl::StrCat(" ", CodeName(event), event.text.empty() ? "" : " ",
                      event.text);
}

std::string Deadline(const Event& event) {
  if (event.deadline_ns() == INT64_MAX) return "no deadline";
  return absl::StrFormat("deadline %.6f s",
                         static_cast<double>(event.deadline_ns()) * 1e-9);
}

// The trace of a fault that was renamed has its older word, which may stand for
// several kinds. Returns the words of those that struck in this run.
std::string PresentWord(const RunResult& result, const std::string& text) {
  std::string words;
  for (const FaultKind kind : FaultKindsNamed(text)) {
    const std::string word(ToString(kind));
    if (!result.injections.contains(word)) continue;
    absl::StrAppend(&words, words.empty() ? "" : " or ", word);
  }
  return words.empty() ? text : words;
}

// Whether a fault of the plan is of a kind that has `word` in the trace.
bool IsOfKind(FaultKind kind, std::string_view word) {
  const std::vector<FaultKind> kinds = FaultKindsNamed(word);
  return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

// The fault's line, which may have an older word for its kind.
std::string InPresentWords(const Fault& fault) {
  const size_t end = std::min(fault.text.find(' '), fault.text.size());
  return absl::StrCat(std::string(ToString(fault.kind)),
                      fault.text.substr(end));
}

// The place of a stall, if the run has a decision to stall for just so long.
std::string PlaceOfStall(const RunResult& result, const Event& event) {
  for (const Decision& decision : result.decisions) {
    if (decision.kind == DecisionKind::kStall &&
        decision.value == static_cast<uint64_t>(event.stall_ns()) &&
        RankOfName(decision.site) == event.node) {
      return absl::StrCat(" at ", decision.site, "#", decision.count);
    }
  }
  return "";
}

struct Meaning {
  std::string_view rule;
  std::string_view sentence;
};

// docs/failing-seed.md has the same table, with more words.
constexpr auto kMeanings = std::to_array<Meaning>({
    {"exactly-once", "A call that was started is completed exactly once."},
    {"deadline", "A call does not time out before its deadline."},
    {"byte-for-byte", "Requests and replies arrive as they were sent."},
    {"named-cause", "A call that fails says why."},
    {"unfounded",
     "A call that fails because of the connection to a peer has a failure of "
     "such a connection, and not of an earlier one."},
    {"heard",
     "A connection that fails for want of a sign of life has brought nothing "
     "for at least half of that time."},
    {"handed-over",
     "No call is handed to a handler more often than it was started."},
    {"answered", "No call is answered more often than it was started."},
    {"after-shutdown",
     "Nothing happens to an agent after it has been shut down."},
    {"barrier", "No member leaves a barrier before all members are in it."},
    {"shutdown", "A worker that ends has shut down its agent."},
    {"deadlock",
     "While threads are left, one of them can run or will be woken."},
    {"time-limit", "The run ends within the scenario's `max_time`."},
    {"progress", "A run has a bounded number of steps; this one goes round."},
    {"crash", "No signal ends the process, and no CHECK or assertion fails."},
    {"stack-overflow",
     "Threads keep to their stacks, which --stack-kib sizes."},
    {"exception", "No exception leaves a thread or a noexcept function."},
    {"exit", "Code that runs in a world does not end the process."},
    {"hang",
     "A run ends within the CPU time and the real time that "
     "--max-wall-seconds-per-seed allows."},
    {"not-simulated",
     "What code that runs in a world calls can be answered by the world."},
    {"settle",
     "After the last fault every worker ends within the scenario's "
     "`settle_time`."},
    {"leak",
     "When a run without a crash has ended, no connection and no allocation "
     "is left."},
    {"gpu-race",
     "Reads and writes of the same memory are ordered by streams, events, "
     "callbacks or a thread that waited."},
    {"gpu-freed",
     "Memory that work uses is neither freed nor used after that."},
    {"gpu-event", "No event is waited for before it was ever recorded."},
    {"gpu-handle",
     "What a handle refers to is there when it is opened and used."},
    {"gpu-memory",
     "A range lies within an allocation of this process, or one that it has "
     "opened."},
    {"gpu-callback", "A callback of a stream does not call the driver."},
});

}  // namespace

int32_t RankOfName(std::string_view name) {
  if (name.size() < 2 || name[0] != 'w') return -1;
  int32_t rank = -1;
  const auto [end, error] =
      std::from_chars(name.data() + 1, name.data() + name.size(), rank);
  if (error != std::errc()) return -1;
  constexpr std::string_view kMayFollow = "-_:+/ ";
  return end == name.data() + name.size() ||
                 kMayFollow.find(*end) != std::string_view::npos
             ? rank
             : -1;
}

std::string WorkerName(int32_t rank) { return absl::StrCat("w", rank); }

bool IsTooSmallToTell(EventKind kind) {
  switch (kind) {
    case EventKind::kSendHello:
    case EventKind::kSendDescriptor:
    case EventKind::kSendPayload:
    case EventKind::kSendTensor:
    case EventKind::kDeliver:
    case EventKind::kSwitch:
    case EventKind::kFiberStarted:
    case EventKind::kFiberEnded:
      return true;
    default:
      return false;
  }
}

std::string MeaningOf(std::string_view rule) {
  for (const Meaning& meaning : kMeanings) {
    if (meaning.rule == rule) return std::string(meaning.sentence);
  }
  return "This is a rule of the scenario's own (`Worker::Check`).";
}

Narrator::Narrator(const RunResult& result) : result_(result) {
  for (const std::string& line : result.faults) {
    if (std::find(result.never_struck.begin(), result.never_struck.end(),
                  line) != result.never_struck.end()) {
      continue;
    }
    // The workers that a line names were checked when the run began.
    absl::StatusOr<Fault> fault =
        ParseFault(line, std::numeric_limits<int>::max());
    if (!fault.ok()) continue;
    Planned planned;
    planned.begin_ns = fault->after_ns;
    planned.events_to_come = fault->event_number;
    planned.fault = *std::move(fault);
    plan_.push_back(std::move(planned));
  }
}

std::string Narrator::FaultWords(const Event& event) const {
  // Of some the trace has the whole line.
  if (event.text.find(' ') != std::string::npos) return event.text;
  std::string now;
  std::string ever;
  for (const Planned& planned : plan_) {
    if (!IsOfKind(planned.fault.kind, event.text)) continue;
    const std::string line = InPresentWords(planned.fault);
    absl::StrAppend(&ever, ever.empty() ? "" : ", or ", line);
    if (planned.events_to_come > 0 || event.time_ns < planned.begin_ns ||
        (planned.fault.for_ns != 0 &&
         event.time_ns - planned.begin_ns > planned.fault.for_ns)) {
      continue;
    }
    absl::StrAppend(&now, now.empty() ? "" : ", or ", line);
  }
  if (!now.empty()) return now;
  return ever.empty() ? PresentWord(result_, event.text) : ever;
}

std::optional<std::string> Narrator::Tell(const Event& event) {
  Learn(event);
  if (IsTooSmallToTell(event.kind)) return std::nullopt;
  return Words(event);
}

void Narrator::Learn(const Event& event) {
  for (Planned& planned : plan_) {
    const Fault& fault = planned.fault;
    if (fault.at_event && fault.event == event.kind &&
        fault.event_worker == event.node && --planned.events_to_come == 0) {
      planned.begin_ns = event.time_ns;
    }
  }
  if (event.kind == EventKind::kCallStarted) {
    // A worker that was restarted counts its calls from the beginning.
    labels_[{event.node, event.id}] = event.text;
  } else if (event.kind == EventKind::kMemberJoined) {
    names_[event.rank()] = event.text;
  }
}

std::string Narrator::CallName(const CallKey& call) const {
  const auto found = labels_.find(call);
  const bool has_label = found != labels_.end() && !found->second.empty();
  return has_label
             ? absl::StrCat("call ", call.second, " (", found->second, ")")
             : absl::StrCat("call ", call.second);
}

std::string Narrator::PeerName(int32_t id) const {
  const auto found = names_.find(id);
  return found == names_.end() ? WorkerName(id) : found->second;
}

std::string Narrator::Words(const Event& event) const {
  const auto own_call = [&] { return CallName({event.node, event.id}); };
  const auto callers_call = [&] {
    return absl::StrCat(CallName({RankOfName(event.text), event.id}), " of ",
                        event.text);
  };
  switch (event.kind) {
    case EventKind::kWorkerStarted:
      return event.incarnation() == 0
                 ? "starts"
                 : absl::StrCat("starts again (", event.incarnation(), ")");
    case EventKind::kWorkerEnded:
      return "ends";
    case EventKind::kNote:
      return absl::StrCat("notes: ", event.text);
    case EventKind::kCheckFailed:
      return absl::StrCat("FAILS: ", event.text);
    case EventKind::kProbe:
      return absl::StrCat("reaches '", event.text, "'");
    case EventKind::kCallStarted:
      return absl::StrCat("calls ", PeerName(event.rank()), " (", own_call(),
                          ", ", Deadline(event), ")");
    case EventKind::kCallCompleted:
      return absl::StrCat(own_call(), " to ", PeerName(event.rank()),
                          " is done:", Outcome(event));
    case EventKind::kCallRetried:
      return absl::StrCat("sends ", CallName({event.node, event.earlier()}),
                          " to ", PeerName(event.rank()), " again, as call ",
                          event.id);
    case EventKind::kCallLateReply:
      return absl::StrCat("drops a late reply to ", own_call());
    case EventKind::kRequest:
      return absl::StrCat("gets ", callers_call());
    case EventKind::kReply:
      return absl::StrCat("answers ", callers_call(), ": ", CodeName(event));
    case EventKind::kPipeConnecting:
      return absl::StrCat("connects to ", event.text);
    case EventKind::kPipeConnected:
      return absl::StrCat("has a connection to ", event.text);
    case EventKind::kPipeFailed:
      return absl::StrCat("loses its connection: ", event.text);
    case EventKind::kPipeAccepted:
      return absl::StrCat("has a connection from ", event.text);
    case EventKind::kPipeClosed:
      return absl::StrCat("closes a connection with ", event.text);
    case EventKind::kListening:
      return absl::StrCat("listens at ", event.text);
    case EventKind::kListenerFailed:
      return absl::StrCat("loses its listener: ", event.text);
    case EventKind::kBarrierEntered:
      return absl::StrCat("enters barrier ", event.id);
    case EventKind::kBarrierLeft:
      return absl::StrCat("leaves barrier ", event.id, ":", Outcome(event));
    case EventKind::kMemberJoined:
      return absl::StrCat("learns that ", event.text, " has joined (id ",
                          event.rank(), ")");
    case EventKind::kMemberLeft:
      return absl::StrCat("learns that ", event.text, " has left (id ",
                          event.rank(), ")");
    case EventKind::kShutdown:
      return "has shut down";
    case EventKind::kConnect:
      return absl::StrCat("opens connection ", event.id, " to ", event.text);
    case EventKind::kRefused:
      return "is refused a connection";
    case EventKind::kAccept:
      return absl::StrCat("accepts connection ", event.id);
    case EventKind::kBreak:
      return absl::StrCat("has connection ", event.id, " broken");
    case EventKind::kStore:
      return absl::StrCat("in the store: ", event.text);
    case EventKind::kFile:
      return absl::StrCat("on its disk: ", event.text);
    case EventKind::kStall:
      return absl::StrFormat("stalls for %.3f us%s",
                             static_cast<double>(event.stall_ns()) * 1e-3,
                             PlaceOfStall(result_, event));
    case EventKind::kFault:
      return absl::StrCat("FAULT ", FaultWords(event));
    case EventKind::kCrash:
      return event.death() == NodeDeath::kKilled     ? "IS KILLED"
             : event.death() == NodeDeath::kPowerCut ? "LOSES ITS POWER"
                                                     : "CRASHES";
    case EventKind::kRestart:
      return "is restarted";
    case EventKind::kGpuPut:
      return absl::StrCat("puts on a stream: ", event.text);
    case EventKind::kGpuDone:
      return absl::StrCat("is done on its stream: ", event.text,
                          event.is_ok() ? "" : ": ",
                          event.is_ok() ? "" : CodeName(event));
    case EventKind::kCopied:
      return event.rank() < 0 || event.num_bytes() == 0
                 ? std::string("cannot read another worker's memory")
                 : absl::StrCat("reads ", event.num_bytes(), " bytes of w",
                                event.rank(), "'s memory");
    default:
      return "";
  }
}

}  // namespace reprise
