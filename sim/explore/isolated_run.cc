#include "sim/explore/isolated_run.h"

#include <poll.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "sim/explore/child_process.h"
#include "sim/explore/obituary.h"
#include "sim/explore/result_log.h"
#include "sim/world/arena.h"

namespace reprise {
namespace {

constexpr int kLookMs = 50;
constexpr int kLogIsFull = 1;  // an exit code

// In the child.
void RunAndWrite(const SimRunOptions& options,
                 const std::vector<uint64_t>& after, SharedLog& log) {
  SimRunOptions before = options;
  before.keep_trace = false;
  before.scatter = 0;
  for (uint64_t seed : after) {
    before.seed = seed;
    BeginRun(seed, nullptr);
    RunSimulated(before).status().IgnoreError();
    EndRun();
  }
  RunRecorder recorder(log);
  SimRunOptions recorded = options;
  // Without events nothing would tell whether the run goes on.
  if (options.max_idle_seconds > 0) recorded.keep_trace = true;
  if (recorded.keep_trace) recorded.recorder = &recorder;
  BeginRun(options.seed, &recorder);
  absl::StatusOr<RunResult> result = RunSimulated(recorded);
  EndRun();
  if (!result.ok()) {
    WriteError(log, result.status());
    return;
  }
  // Not in replays, of which there are many while a failure is made smaller.
  if (options.recording == nullptr && result->held() && HasLostMemory()) {
    result->rule = "leak";
    result->detail = "LeakSanitizer reports lost memory";
  }
  // The events are there. The decisions of a replay are those it followed.
  log.Begin(kRestartEntry);
  bool fits = log.Commit() && recorder.is_whole();
  for (const Decision& decision : result->decisions) {
    fits = fits && WriteDecision(log, decision);
  }
  if (!fits || !WriteResult(log, options.seed, *result)) _exit(kLogIsFull);
}

// What the child wrote, and whether it wrote a result.
absl::StatusOr<bool> Read(SharedLog& log, RunResult& result) {
  bool is_whole = false;
  while (const char type = log.Next()) {
    switch (type) {
      case kPlanEntry:
        result.faults = ReadPlan(log);
        break;
      case kEventEntry:
        result.events.push_back(ReadEvent(log));
        break;
      case kDecisionEntry:
        result.decisions.push_back(ReadDecision(log));
        break;
      case kRestartEntry:
        result.decisions.clear();
        break;
      case kErrorEntry:
        return ReadError(log);
      case kResultEntry: {
        uint64_t seed = 0;
        RunResult whole = ReadResult(log, seed);
        whole.events = std::move(result.events);
        whole.decisions = std::move(result.decisions);
        result = std::move(whole);
        is_whole = true;
        break;
      }
      default:
        break;
    }
  }
  return is_whole;
}

// The decisions of a recording that were followed in a run that died. Without a
// record that says so, all may have been.
void ReadFollowed(const std::vector<Decision>& recording,
                  const DeathRecord& record, RunResult& result) {
  const bool is_known =
      record.num_followed == static_cast<int64_t>(recording.size());
  for (size_t i = 0; i < recording.size(); ++i) {
    if (!is_known || record.followed[i]) {
      result.decisions.push_back(recording[i]);
    } else if (result.first_mismatch.empty()) {
      result.first_mismatch = recording[i].ToString();
    }
  }
}

}  // namespace

absl::StatusOr<RunResult> RunIsolated(const SimRunOptions& options,
                                      const std::vector<uint64_t>& after) {
  if (options.in_process) return RunSimulated(options);
  ChildOptions limits;
  limits.max_seconds = options.max_wall_seconds;
  limits.max_idle_seconds = options.max_idle_seconds;
  absl::StatusOr<std::unique_ptr<ChildProcess>> started = ChildProcess::Start(
      limits, [&](SharedLog& log) { RunAndWrite(options, after, log); });
  if (!started.ok()) return started.status();
  ChildProcess& child = **started;
  while (!child.HasEnded()) {
    pollfd ended = {child.fd(), POLLIN, 0};
    poll(&ended, 1, child.fd() < 0 ? 2 : kLookMs);
  }
  RunResult result;
  const absl::StatusOr<bool> is_whole = Read(child.log(), result);
  if (!is_whole.ok()) return is_whole.status();
  if (*is_whole && child.ended_well()) return result;
  if (child.was_interrupted()) {
    return absl::CancelledError("the process of a run was ended from outside");
  }
  if (!child.record().in_run) {
    return absl::UnavailableError(
        "the run recorded more events than fit into 4 GiB; bound it by the "
        "scenario's max_time");
  }
  child.DescribeTo(result);
  result.topology = TopologyOf(options);
  if (options.recording != nullptr) {
    ReadFollowed(*options.recording, child.record(), result);
  }
  return result;
}

}  // namespace reprise
