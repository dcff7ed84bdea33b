#include "sim/trace/causes.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace reprise {
namespace {

constexpr std::string_view kConnectionTo = "connection to ";
// Threads tell of things a little later than they happen.
constexpr int64_t kGraceNs = 50'000'000;

constexpr std::string_view kNoSign = "no sign of life from ";

// "w1" of "connection to w1 failed: ...", or an empty text.
std::string_view PeerInFailure(std::string_view text) {
  if (!text.starts_with(kConnectionTo)) return "";
  text.remove_prefix(kConnectionTo.size());
  const size_t end = text.find(" failed: ");
  return end == std::string_view::npos ? "" : text.substr(0, end);
}

// The time in "... no sign of life from w1 for 30s"; 0 if there is none.
int64_t SilenceIn(std::string_view text) {
  const size_t at = text.find(kNoSign);
  if (at == std::string_view::npos) return 0;
  const size_t before = text.rfind(" for ");
  absl::Duration silence;
  if (before == std::string_view::npos || before < at ||
      !absl::ParseDuration(std::string(text.substr(before + 5)), &silence)) {
    return 0;
  }
  return absl::ToInt64Nanoseconds(silence);
}

// Of faults that make a worker slow to notice things.
bool SlowsDown(std::string_view fault) {
  for (std::string_view word : {"pause", "slow", "no-memory", "clock-drift"}) {
    if (fault.starts_with(word)) return true;
  }
  return false;
}

}  // namespace

int32_t RankOfWorker(std::string_view name) {
  if (name.size() < 2 || name[0] != 'w') return -1;
  int32_t rank = -1;
  auto [end, error] =
      std::from_chars(name.data() + 1, name.data() + name.size(), rank);
  if (error != std::errc()) return -1;
  const bool is_whole = end == name.data() + name.size();
  return is_whole || *end == '-' || *end == '_' || *end == ':' ? rank : -1;
}

Causes::Member& Causes::MemberOf(const Event& event) {
  const auto rank = static_cast<size_t>(event.node);
  if (rank >= members_.size()) members_.resize(rank + 1);
  return members_[rank];
}

void Causes::OnEvent(const Event& event) {
  if (event.kind == EventKind::kFault && SlowsDown(event.text)) is_slow_ = true;
  if (event.node < 0) return;
  switch (event.kind) {
    case EventKind::kConnect:
      connections_[event.id] = {.client = event.node,
                                .server = event.rank(),
                                .begun_ns = event.time_ns};
      break;
    case EventKind::kDeliver: {
      const auto found = connections_.find(event.id);
      if (found == connections_.end()) break;
      Connection& connection = found->second;
      (event.node == connection.client ? connection.client_heard_ns
                                       : connection.server_heard_ns) =
          event.time_ns;
      break;
    }
    case EventKind::kListening:
      ++listeners_[event.node];
      break;
    case EventKind::kPipeConnected:
      MemberOf(event).peers[event.text].connected_ns = event.time_ns;
      break;
    case EventKind::kPipeFailed:
      PipeFailed(MemberOf(event), event);
      break;
    case EventKind::kCallStarted:
      MemberOf(event).started_ns[event.id] = event.time_ns;
      ++calls_[{event.node, event.id}].started;
      break;
    case EventKind::kCallCompleted:
      CallCompleted(MemberOf(event), event);
      break;
    case EventKind::kRequest:
      CheckAtMostStarted(event, &Counts::handed_over, "handed-over",
                         "handed to a handler");
      CheckGivenUp(event);
      break;
    case EventKind::kReply:
      // Also one that was refused, and not handed over.
      CheckAtMostStarted(event, &Counts::answered, "answered", "answered");
      break;
    case EventKind::kShutdown:
    case EventKind::kWorkerEnded:
      CheckFounded(MemberOf(event));
      [[fallthrough]];
    case EventKind::kCrash:
    case EventKind::kRestart:
      MemberOf(event) = Member();
      break;
    default:
      break;
  }
}

void Causes::CheckAtMostStarted(const Event& event, int Counts::*times,
                                std::string_view rule, std::string_view what) {
  Counts& counts = calls_[{RankOfWorker(event.text), event.id}];
  if (++(counts.*times) <= counts.started || counts.started == 0) return;
  violated_(rule, event,
            absl::StrCat("was ", std::string(what), " ", counts.*times,
                         " times, and started ", counts.started, " times"));
}

// The bytes of a call come after its start, so a connection that has brought
// none since then has not carried it.
void Causes::CheckGivenUp(const Event& event) {
  const int32_t caller = RankOfWorker(event.text);
  if (caller < 0 || caller == event.node || listeners_[caller] != 1 ||
      static_cast<size_t>(caller) >= members_.size()) {
    return;
  }
  const auto& failed_calls = members_[caller].failed_calls;
  const auto found = failed_calls.find(event.id);
  if (found == failed_calls.end()) return;
  const FailedCall& call = found->second;
  bool is_later = false;
  for (const auto& [id, connection] : connections_) {
    if (connection.client != caller || connection.server != event.node ||
        connection.server_heard_ns < call.started_ns) {
      continue;
    }
    if (connection.begun_ns <= call.ended_ns) return;
    is_later = true;
  }
  if (!is_later) return;  // there are no events of the network
  violated_("given-up", event,
            absl::StrCat("reached a handler over a connection that began after "
                         "its caller had ended it, ",
                         absl::FormatDuration(
                             absl::Nanoseconds(event.time_ns - call.ended_ns)),
                         " before"));
}

void Causes::CallCompleted(Member& member, const Event& event) {
  if (!event.is_ok() && !PeerInFailure(event.text).empty() &&
      !IsFounded(member, event)) {
    member.unfounded.push_back(event);
  }
  const auto started = member.started_ns.find(event.id);
  if (started == member.started_ns.end()) return;
  // A shutdown ends its calls before it stops connecting.
  if (!event.is_ok() && !absl::StrContains(event.text, "was shut down")) {
    member.failed_calls[event.id] = {started->second, event.time_ns};
  }
  member.started_ns.erase(started);
}

bool Causes::IsFounded(const Member& member, const Event& event) const {
  const auto peer = member.peers.find(PeerInFailure(event.text));
  if (peer == member.peers.end()) return false;
  const auto started = member.started_ns.find(event.id);
  for (const auto& [text, failed_ns] : peer->second.failures_ns) {
    // A label may come after it.
    if (!event.text.starts_with(text)) continue;
    if (started == member.started_ns.end() ||
        failed_ns + kGraceNs >= started->second ||
        failed_ns >= peer->second.connected_ns) {
      return true;
    }
  }
  return false;
}

void Causes::PipeFailed(Member& member, const Event& event) {
  const size_t end = event.text.find(": ");
  if (end == std::string::npos) return;
  const std::string name = event.text.substr(0, end);
  std::string text = event.text.substr(end + 2);
  std::erase_if(member.unfounded, [&](const Event& completed) {
    return completed.text.starts_with(text) &&
           event.time_ns - completed.time_ns <= kGraceNs;
  });
  CheckSilence(event, RankOfWorker(name));
  member.peers[name].failures_ns[std::move(text)] = event.time_ns;
}

void Causes::CheckSilence(const Event& event, int32_t peer) {
  const int64_t silence_ns = SilenceIn(event.text);
  if (silence_ns == 0 || is_slow_ || peer < 0) return;
  // An earlier agent may be silent while the present one speaks.
  if (listeners_[event.node] > 1 || listeners_[peer] > 1) return;
  int64_t heard_ns = 0;
  const bool is_client = absl::StrContains(event.text, ": connection to ");
  for (const auto& [id, connection] : connections_) {
    if (is_client && connection.client == event.node &&
        connection.server == peer) {
      heard_ns = std::max(heard_ns, connection.client_heard_ns);
    }
    if (!is_client && connection.client == peer &&
        connection.server == event.node) {
      heard_ns = std::max(heard_ns, connection.server_heard_ns);
    }
  }
  const int64_t since_ns = event.time_ns - heard_ns;
  if (heard_ns == 0 || since_ns >= silence_ns / 2) return;
  violated_("heard", event,
            absl::StrCat(event.text, ", and yet something came from it ",
                         absl::FormatDuration(absl::Nanoseconds(since_ns)),
                         " before"));
}

void Causes::CheckFounded(const Member& member) {
  if (member.unfounded.empty()) return;
  const Event& first = member.unfounded.front();
  violated_("unfounded", first,
            absl::StrCat("failed by what did not happen: ", first.text));
}

void Causes::Finish() {
  for (const Member& member : members_) CheckFounded(member);
}

}  // namespace reprise
