#include "tools/processes/coordinator.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tools/processes/gpu_choice.h"
#include "tools/processes/interruption.h"

namespace reprise {
namespace {

// The death or stop of a worker does not wake the poll. So the coordinator
// looks at the workers this often, and more often while it expects one of the
// two.
constexpr int64_t kLookMs = 50;
constexpr int64_t kLookCloselyMs = 1;

// A connection breaks before the process at its other end can be waited for,
// and much before that if it dumps its core.
constexpr int64_t kLookForTheLostMs = 300;

}  // namespace

Coordinator::Coordinator(const ProcessRunOptions& options,
                         const std::vector<Fault>& faults,
                         std::string directory)
    : options_(options),
      faults_(faults),
      directory_(std::move(directory)),
      start_ns_(MonotonicNanoseconds()),
      members_(
          static_cast<size_t>(NumWorkers(*options.scenario, options.params))),
      events_seen_(faults.size(), 0),
      begun_(faults.size(), false),
      struck_(faults.size(), false) {}

std::string Coordinator::FilesIn(const std::string& directory) {
  return directory + "/files";
}

absl::Status Coordinator::Run() {
  absl::Status status;
  for (size_t rank = 0; rank < members_.size() && status.ok(); ++rank) {
    status = StartWorker(static_cast<int32_t>(rank));
  }
  while (status.ok() && !IsOver()) {
    if (Interruption::signal() != 0) {
      status = absl::CancelledError("interrupted");
      break;
    }
    status = DoWhatIsDue();
    WaitForWorkers();
  }
  if (failed()) LookForTheLost();
  KillAll();
  return status;
}

bool Coordinator::IsOver() const {
  if (failed()) return true;
  return std::none_of(members_.begin(), members_.end(), [](const Member& m) {
    return m.child != nullptr || m.restart_at_ns != kForEver;
  });
}

absl::Status Coordinator::StartWorker(int32_t rank) {
  Member& member = members_[rank];
  const int incarnation = member.incarnation + 1;
  member = Member();
  member.incarnation = incarnation;
  const int64_t start_ns = Now();
  WorkerArguments arguments;
  arguments.scenario = options_.scenario->name;
  arguments.rank = rank;
  arguments.world_size = static_cast<int>(members_.size());
  arguments.incarnation = incarnation;
  arguments.seed = options_.seed;
  arguments.params = options_.params;
  arguments.transports = options_.transports;
  arguments.gpus =
      GpusOfRank(options_.gpus, rank, options_.scenario->gpus_per_host);
  arguments.store_url = absl::StrCat("file://", directory_, "/store");
  arguments.files = absl::StrCat(FilesIn(directory_), "/w", rank);
  arguments.plant = options_.plant;
  arguments.start_ns = start_ns_;
  auto child = WorkerChild::Start(std::move(arguments));
  if (!child.ok()) return child.status();
  member.child = *std::move(child);
  // The event comes after the worker exists, because a fault may crash the
  // worker at this event.
  if (incarnation != 0) {
    OnEvent(
        MakeEvent(start_ns, rank,
                  {.kind = EventKind::kRestart, .incarnation = incarnation}));
  }
  return absl::OkStatus();
}

void Coordinator::Record(int32_t node, const EventDetails& details) {
  OnEvent(MakeEvent(Now(), node, details));
}

void Coordinator::OnTraceLine(int32_t rank, std::string_view line) {
  Event event;
  if (!ParseEvent(line, event) || event.node != rank) {
    Fail("trace",
         absl::StrCat("w", rank, " wrote a line that is not of a trace: ",
                      std::string(line.substr(0, 300))),
         Now());
    return;
  }
  OnEvent(event);
}

void Coordinator::OnEvent(const Event& event) {
  events_.push_back(event);
  if (event.kind == EventKind::kWorkerEnded) {
    members_[event.node].ended_body = true;
  } else if (event.kind == EventKind::kCheckFailed) {
    Fail("check", event.text, event.time_ns);
  }
  if (failed()) return;
  for (size_t i = 0; i < faults_.size(); ++i) {
    const Fault& fault = faults_[i];
    if (fault.at_event && fault.event == event.kind &&
        fault.event_worker == event.node &&
        ++events_seen_[i] == fault.event_number) {
      Begin(fault);
    }
  }
}

void Coordinator::Begin(const Fault& fault) {
  Member& member = members_[fault.worker];
  if (member.child == nullptr || member.crash != nullptr) return;
  switch (fault.kind) {
    case FaultKind::kCrash:
    case FaultKind::kKill:
      member.crash = &fault;
      member.child->Signal(SIGKILL);
      break;
    case FaultKind::kPause:
      if (member.pause != nullptr) break;
      member.pause = &fault;
      member.child->Signal(SIGSTOP);
      break;
    default:  // exists in the simulator only, as fault_kind.h says
      break;
  }
}

void Coordinator::Injected(const Fault& fault, int64_t until_ns) {
  ++injections_[std::string(ToString(fault.kind))];
  struck_[static_cast<size_t>(&fault - faults_.data())] = true;
  end_.last_effect_ns = std::max(end_.last_effect_ns, until_ns);
  Record(-1, {.kind = EventKind::kFault, .text = fault.text});
}

absl::Status Coordinator::DoWhatIsDue() {
  const int64_t now_ns = Now();
  for (size_t i = 0; i < faults_.size(); ++i) {
    if (faults_[i].at_event || begun_[i] || faults_[i].after_ns > now_ns) {
      continue;
    }
    begun_[i] = true;
    Begin(faults_[i]);
  }
  for (size_t rank = 0; rank < members_.size(); ++rank) {
    Member& member = members_[rank];
    if (member.continue_at_ns <= now_ns) {
      member.continue_at_ns = kForEver;
      member.pause = nullptr;
      member.stopped = false;
      member.child->Signal(SIGCONT);
    }
    if (member.restart_at_ns > now_ns) continue;
    absl::Status status = StartWorker(static_cast<int32_t>(rank));
    if (!status.ok()) return status;
  }
  if (now_ns > absl::ToInt64Nanoseconds(options_.max_wall_time)) {
    std::vector<std::string> running;
    std::string killed;
    for (size_t rank = 0; rank < members_.size(); ++rank) {
      const Member& member = members_[rank];
      if (member.child != nullptr) running.push_back(absl::StrCat("w", rank));
      if (member.killed == nullptr) continue;
      absl::StrAppend(&killed, "; w", rank, " was killed by the fault '",
                      member.killed->text, "'");
    }
    Fail("time-limit",
         absl::StrCat("not over after ",
                      absl::FormatDuration(options_.max_wall_time), ": ",
                      absl::StrJoin(running, ", "), " still running", killed),
         now_ns);
  }
  return absl::OkStatus();
}

int Coordinator::PollTimeoutMs() const {
  const int64_t now_ns = Now();
  int64_t until_ns = absl::ToInt64Nanoseconds(options_.max_wall_time);
  int64_t look_ms = kLookMs;
  for (const Member& member : members_) {
    until_ns =
        std::min({until_ns, member.continue_at_ns, member.restart_at_ns});
    if (member.child == nullptr) continue;
    const bool will_stop = member.pause != nullptr && !member.stopped;
    if (will_stop || member.crash != nullptr || member.child->trace_ended()) {
      look_ms = kLookCloselyMs;
    }
  }
  for (size_t i = 0; i < faults_.size(); ++i) {
    if (!faults_[i].at_event && !begun_[i]) {
      until_ns = std::min(until_ns, faults_[i].after_ns);
    }
  }
  const int64_t wait_ms = (until_ns - now_ns + 999'999) / 1'000'000;
  return static_cast<int>(std::clamp<int64_t>(wait_ms, 0, look_ms));
}

void Coordinator::WaitForWorkers() {
  std::vector<pollfd> fds;
  for (const Member& member : members_) {
    if (member.child != nullptr) member.child->AddPollFds(fds);
  }
  if (!failed()) poll(fds.data(), fds.size(), PollTimeoutMs());
  for (size_t rank = 0; rank < members_.size(); ++rank) {
    if (members_[rank].child != nullptr) Look(static_cast<int32_t>(rank));
  }
}

void Coordinator::Look(int32_t rank) {
  Member& member = members_[rank];
  member.child->Read([&](std::string_view line) { OnTraceLine(rank, line); });
  switch (member.child->Look()) {
    case WorkerChild::State::kRuns:
      break;
    case WorkerChild::State::kStopped:
      if (member.pause != nullptr && !member.stopped) {
        member.stopped = true;
        const int64_t now_ns = Now();
        const bool ends = member.pause->for_ns != kForEver;
        if (ends) member.continue_at_ns = now_ns + member.pause->for_ns;
        Injected(*member.pause, ends ? member.continue_at_ns : now_ns);
      }
      break;
    case WorkerChild::State::kDied:
      Died(rank);
      break;
  }
}

void Coordinator::Died(int32_t rank) {
  Member& member = members_[rank];
  member.child->WaitForEnd(
      [&](std::string_view line) { OnTraceLine(rank, line); });
  const std::unique_ptr<WorkerChild> child = std::move(member.child);
  member.continue_at_ns = kForEver;
  const Fault* const crash = std::exchange(member.crash, nullptr);
  if (crash != nullptr && child->died_of(SIGKILL)) {
    const int64_t now_ns = Now();
    if (crash->restart_ns >= 0) {
      member.restart_at_ns = now_ns + crash->restart_ns;
    } else {
      member.killed = crash;
    }
    Injected(*crash, now_ns + std::max<int64_t>(crash->restart_ns, 0));
    Record(rank,
           {.kind = EventKind::kCrash, .incarnation = member.incarnation});
    return;
  }
  if (child->exited_well() && member.ended_body && !child->trace_is_torn()) {
    return;
  }
  Record(rank, {.kind = EventKind::kCrash, .incarnation = member.incarnation});
  lost_.push_back(absl::StrCat("w", rank, " ",
                               child->exited_well() && !child->trace_is_torn()
                                   ? "exited before its body had returned; it "
                                   : "",
                               child->DescribeEnd()));
  Fail("process", lost_.back(), Now());
}

void Coordinator::LookForTheLost() {
  const int64_t until_ns = Now() + kLookForTheLostMs * 1'000'000;
  while (lost_.empty() && Now() < until_ns) {
    poll(nullptr, 0, static_cast<int>(kLookCloselyMs));
    for (size_t rank = 0; rank < members_.size(); ++rank) {
      Member& member = members_[rank];
      if (member.child == nullptr) continue;
      if (member.child->Look() == WorkerChild::State::kDied) {
        Died(static_cast<int32_t>(rank));
      }
    }
  }
}

void Coordinator::KillAll() {
  for (const Member& member : members_) {
    if (member.child != nullptr) member.child->Signal(SIGKILL);
  }
  for (size_t rank = 0; rank < members_.size(); ++rank) {
    if (members_[rank].child == nullptr) continue;
    members_[rank].child->WaitForEnd([&](std::string_view line) {
      Event event;
      if (ParseEvent(line, event)) events_.push_back(std::move(event));
    });
    members_[rank].child = nullptr;
  }
}

void Coordinator::Fail(std::string_view rule, std::string detail,
                       int64_t failed_ns) {
  if (failed()) return;
  end_.rule = std::string(rule);
  end_.detail = std::move(detail);
  end_.failed_ns = failed_ns;
}

RunResult Coordinator::TakeResult() {
  RunResult result;
  result.wall_seconds = static_cast<double>(Now()) * 1e-9;
  result.injections = std::move(injections_);
  for (size_t i = 0; i < faults_.size(); ++i) {
    if (!struck_[i]) result.never_struck.push_back(faults_[i].text);
  }
  end_.num_workers = static_cast<int>(members_.size());
  end_.num_clients = options_.scenario->clients;
  end_.settle_time = options_.scenario->settle_time;
  Judge(end_, std::move(events_), result);
  if (result.held()) return result;
  // Whatever rule was violated first, a death is likely to be why.
  for (const std::string& lost : lost_) {
    if (!absl::StrContains(result.detail, lost)) {
      absl::StrAppend(&result.detail, "; ", lost);
    }
  }
  return result;
}

}  // namespace reprise
