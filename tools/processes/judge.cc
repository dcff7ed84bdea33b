#include "tools/processes/judge.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fault_injection/fault.h"
#include "sim/trace/invariants.h"

namespace reprise {
namespace {

// Takes the rule and the detail from "w1: rule: detail", as workers write it.
void TakeCheck(const Event& event, RunResult& result) {
  const std::string worker = absl::StrCat("w", event.node, ": ");
  std::string_view text = event.text;
  if (text.substr(0, worker.size()) == worker) {
    text.remove_prefix(worker.size());
  }
  const size_t end = text.find(": ");
  result.rule = std::string(text.substr(0, end));
  result.detail = worker;
  if (end != std::string_view::npos) result.detail += text.substr(end + 2);
}

std::vector<std::string> LastEvents(int num_workers,
                                    const std::vector<Event>& events) {
  std::map<int32_t, const Event*> last;
  for (const Event& event : events) last[event.node] = &event;
  std::vector<std::string> lines;
  for (int32_t rank = 0; rank < num_workers; ++rank) {
    auto it = last.find(rank);
    lines.push_back(absl::StrCat(
        "w", rank, ": ",
        it == last.end() ? "no event" : "last: " + ToString(*it->second)));
  }
  return lines;
}

void Keep(std::vector<Event> events, RunResult& result) {
  result.num_events = static_cast<int64_t>(events.size());
  if (!events.empty()) {
    result.sim_seconds =
        static_cast<double>(events.back().time_ns - events.front().time_ns) *
        1e-9;
  }
  result.events = std::move(events);
}

}  // namespace

void Judge(const ProcessRunEnd& end, std::vector<Event> events,
           RunResult& result) {
  std::stable_sort(
      events.begin(), events.end(),
      [](const Event& x, const Event& y) { return x.time_ns < y.time_ns; });
  JudgeInOrder(end, std::move(events), result);
}

void JudgeInOrder(const ProcessRunEnd& end, std::vector<Event> events,
                  RunResult& result) {
  Invariants invariants(
      end.num_workers - end.num_clients,
      [&result](std::string_view rule, std::string_view detail) {
        result.rule = std::string(rule);
        result.detail = std::string(detail);
      });
  int64_t last_worker_ended_ns = 0;
  for (const Event& event : events) {
    if (event.time_ns > end.failed_ns || !result.rule.empty()) break;
    invariants.OnEvent(event);
    if (!result.rule.empty()) break;
    if (event.kind == EventKind::kCheckFailed) TakeCheck(event, result);
    if (event.kind == EventKind::kProbe) result.probes.insert(event.text);
    if (event.kind == EventKind::kWorkerEnded) {
      last_worker_ended_ns = event.time_ns;
    }
  }
  if (result.rule.empty() && !end.rule.empty()) {
    result.rule = end.rule;
    result.detail = end.detail;
    if (end.rule == "time-limit") {
      result.waiting = LastEvents(end.num_workers, events);
      absl::StrAppend(&result.detail, "; ",
                      absl::StrJoin(result.waiting, "; "));
    }
  } else if (result.rule.empty()) {
    invariants.Finish();
  }
  const int64_t settled_ns = last_worker_ended_ns - end.last_effect_ns;
  if (result.rule.empty() && absl::Nanoseconds(settled_ns) > end.settle_time) {
    result.rule = "settle";
    result.detail =
        absl::StrCat("the last worker ended ", FormatNanoseconds(settled_ns),
                     " after the last fault; the bound is ",
                     absl::FormatDuration(end.settle_time));
  }
  Keep(std::move(events), result);
}

void JudgeAlone(std::vector<Event> events, RunResult& result) {
  for (const Event& event : events) {
    if (event.kind == EventKind::kCheckFailed) {
      TakeCheck(event, result);
      break;
    }
    if (event.kind == EventKind::kProbe) result.probes.insert(event.text);
  }
  Keep(std::move(events), result);
}

}  // namespace reprise
