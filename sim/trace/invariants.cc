#include "sim/trace/invariants.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

// A timeout with this prefix is not ours: the remote function reports that it
// ran out of time in a call of its own.
constexpr std::string_view kRemoteError = "Error on Node ";

bool IsOfRunningAgent(EventKind kind) {
  switch (kind) {
    case EventKind::kCallStarted:
    case EventKind::kCallCompleted:
    case EventKind::kCallLateReply:
    case EventKind::kRequest:
    case EventKind::kReply:
    case EventKind::kBarrierEntered:
    case EventKind::kBarrierLeft:
      return true;
    default:
      return false;
  }
}

}  // namespace

void Invariants::Fail(std::string_view rule, const Event& event,
                      std::string_view what) {
  if (failed_) return;
  failed_ = true;
  violated_(rule, absl::StrCat("w", event.node, " call ", event.id, ": ",
                               std::string(what)));
}

void Invariants::OnEvent(const Event& event) {
  if (failed_) return;
  causes_.OnEvent(event);
  if (failed_ || event.node < 0) return;
  const auto rank = static_cast<size_t>(event.node);
  if (rank >= members_.size()) members_.resize(rank + 1);
  Member& member = members_[rank];
  if (member.agent_was_shut_down && IsOfRunningAgent(event.kind)) {
    Fail("after-shutdown", event,
         absl::StrCat("'", std::string(ToString(event.kind)),
                      "' after the agent was shut down"));
    return;
  }
  switch (event.kind) {
    case EventKind::kListening:
      ours_.insert(event.node);
      if (member.agent_was_shut_down) Forget(event.node);
      member.agent_running = true;
      break;
    case EventKind::kCrash:
    case EventKind::kRestart:
      Forget(event.node);
      break;
    case EventKind::kCallStarted:
      CallStarted(event);
      break;
    case EventKind::kCallCompleted:
      CallCompleted(event);
      break;
    case EventKind::kRequest: {
      const int32_t caller = RankOfWorker(event.text);
      if (IsForeign(caller)) break;
      auto sent = requests_.find({caller, event.id});
      if (sent == requests_.end() || !sent->second.contains(event.digest())) {
        Fail("byte-for-byte", event,
             absl::StrCat("the request from ", event.text,
                          " is not what it sent"));
      }
      break;
    }
    case EventKind::kReply:
      if (event.is_ok()) {
        replies_[{RankOfWorker(event.text), event.id}].insert(event.digest());
      }
      break;
    case EventKind::kBarrierEntered:
      in_barrier_[event.id].insert(event.node);
      break;
    case EventKind::kBarrierLeft:
      if (event.is_ok() &&
          in_barrier_[event.id].size() <
              static_cast<size_t>(num_workers_ - NumForeign())) {
        Fail("barrier", event,
             absl::StrCat("left barrier ", event.id, " when only ",
                          in_barrier_[event.id].size(), " of ", num_workers_,
                          " were in it"));
      }
      break;
    case EventKind::kShutdown:
      if (!member.open_calls.empty()) {
        Fail("exactly-once", event,
             absl::StrCat("shut down with ", member.open_calls.size(),
                          " calls open, the first of them call ",
                          member.open_calls.begin()->first));
      }
      member.agent_running = false;
      member.agent_was_shut_down = true;
      break;
    case EventKind::kWorkerEnded:
      if (member.agent_running) {
        Fail("shutdown", event, "the worker ended before its agent");
      }
      break;
    default:
      break;
  }
}

void Invariants::CallStarted(const Event& event) {
  Member& member = members_[event.node];
  if (member.open_calls.contains(event.id) ||
      member.closed_calls.contains(event.id)) {
    Fail("exactly-once", event, "its id was used before");
    return;
  }
  member.open_calls[event.id] = {event.rank(), event.deadline_ns(), true};
  requests_[{event.node, event.id}].insert(event.digest());
}

void Invariants::CallCompleted(const Event& event) {
  Member& member = members_[event.node];
  auto open = member.open_calls.find(event.id);
  if (open == member.open_calls.end()) {
    Fail("exactly-once", event,
         member.closed_calls.contains(event.id)
             ? "completed a second time"
             : "completed without having been started");
    return;
  }
  const Call call = open->second;
  member.open_calls.erase(open);
  member.closed_calls.insert(event.id);
  if (event.code() == absl::StatusCode::kDeadlineExceeded &&
      event.time_ns < call.deadline_ns &&
      !event.text.starts_with(kRemoteError)) {
    Fail("deadline", event,
         absl::StrCat("timed out ", call.deadline_ns - event.time_ns,
                      " ns before its deadline"));
  } else if (!event.is_ok() && event.text.empty()) {
    Fail("named-cause", event, "failed without a cause");
  } else if (event.is_ok() && !IsForeign(call.callee)) {
    auto sent = replies_.find({event.node, event.id});
    if (sent == replies_.end() || !sent->second.contains(event.digest())) {
      Fail("byte-for-byte", event,
           absl::StrCat("the reply is not what w", call.callee, " sent"));
    }
  }
}

int Invariants::NumForeign() const {
  int number = 0;
  for (int32_t rank = 0; rank < num_workers_; ++rank) {
    if (IsForeign(rank)) ++number;
  }
  return number;
}

void Invariants::Forget(int32_t rank) { members_[rank] = Member(); }

void Invariants::Finish() {
  for (size_t rank = 0; rank < members_.size(); ++rank) {
    const Member& member = members_[rank];
    if (member.open_calls.empty()) continue;
    Event event;
    event.node = static_cast<int32_t>(rank);
    event.id = member.open_calls.begin()->first;
    Fail("exactly-once", event, "never completed");
    return;
  }
  causes_.Finish();
}

}  // namespace reprise
