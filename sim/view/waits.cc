#include "sim/view/waits.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace reprise {
namespace {

std::string Seconds(int64_t ns) {
  return absl::StrFormat("%.6f s", static_cast<double>(ns) * 1e-9);
}

template <typename T>
bool Contains(const std::vector<T>& all, const T& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

// The workers that are down after the first `end` events.
std::set<int32_t> Crashed(const RunResult& result, size_t end) {
  std::set<int32_t> crashed;
  for (size_t i = 0; i < end; ++i) {
    const Event& event = result.events[i];
    if (event.kind == EventKind::kCrash) crashed.insert(event.node);
    if (event.kind == EventKind::kRestart) crashed.erase(event.node);
  }
  return crashed;
}

// "w1 waits for w2: call 53 (push), for 3.2 s; w2 has it and has not answered".
std::string TellCall(const RunResult& result, const Narrator& narrator,
                     const std::set<int32_t>& crashed, const OpenCall& open,
                     int64_t now_ns) {
  const Event& started = result.events[open.started];
  const std::string peer = narrator.PeerName(started.rank());
  std::string line = absl::StrCat(
      WorkerName(open.call.first), " waits for ", peer, ": ",
      narrator.CallName(open.call), ", for ", Seconds(now_ns - started.time_ns),
      started.deadline_ns() == INT64_MAX
          ? ""
          : absl::StrCat(", until ", Seconds(started.deadline_ns())),
      "; ", peer);
  if (open.answered) {
    const Event& answered = result.events[*open.answered];
    absl::StrAppend(&line, " answered it at ", Seconds(answered.time_ns));
  } else if (open.got) {
    const Event& got = result.events[*open.got];
    absl::StrAppend(&line, " got it at ", Seconds(got.time_ns),
                    crashed.contains(got.node) ? " and has crashed"
                                               : " and has not answered");
  } else {
    absl::StrAppend(&line, crashed.contains(RankOfName(peer))
                               ? " has crashed"
                               : " has not got it");
  }
  return line;
}

std::vector<std::string> TellBarriers(const RunResult& result, size_t end) {
  std::map<uint64_t, std::set<std::string>> in;
  std::set<std::string> workers;
  std::map<uint64_t, std::set<std::string>> came;
  for (size_t i = 0; i < end; ++i) {
    const Event& event = result.events[i];
    if (event.node < 0) continue;
    const std::string worker = WorkerName(event.node);
    workers.insert(worker);
    if (event.kind == EventKind::kBarrierEntered) {
      in[event.id].insert(worker);
      came[event.id].insert(worker);
    } else if (event.kind == EventKind::kBarrierLeft) {
      in[event.id].erase(worker);
    } else if (event.kind == EventKind::kCrash) {
      for (auto& [barrier, there] : in) there.erase(worker);
      for (auto& [barrier, there] : came) there.erase(worker);
    }
  }
  std::vector<std::string> lines;
  for (const auto& [barrier, there] : in) {
    if (there.empty()) continue;
    std::vector<std::string> missing;
    for (const std::string& worker : workers) {
      if (!came[barrier].contains(worker)) missing.push_back(worker);
    }
    lines.push_back(absl::StrCat(
        absl::StrJoin(there, ", "), there.size() == 1 ? " is" : " are",
        " in barrier ", barrier,
        missing.empty()
            ? "; all have come to it"
            : absl::StrCat("; it waits for ", absl::StrJoin(missing, ", "))));
  }
  return lines;
}

}  // namespace

std::vector<OpenCall> OpenCalls(const RunResult& result, size_t end) {
  std::map<CallKey, OpenCall> open;
  for (size_t i = 0; i < end; ++i) {
    const Event& event = result.events[i];
    switch (event.kind) {
      case EventKind::kCallStarted: {
        const CallKey call = {event.node, event.id};
        open[call] = {.call = call, .started = i};
        break;
      }
      case EventKind::kCallCompleted:
        open.erase({event.node, event.id});
        break;
      case EventKind::kRequest:
      case EventKind::kReply: {
        const auto found = open.find({RankOfName(event.text), event.id});
        if (found == open.end()) break;
        (event.kind == EventKind::kRequest ? found->second.got
                                           : found->second.answered) = i;
        break;
      }
      case EventKind::kCrash:
        std::erase_if(open, [&event](const auto& entry) {
          return entry.first.first == event.node;
        });
        break;
      default:
        break;
    }
  }
  std::vector<OpenCall> calls;
  for (const auto& [key, call] : open) calls.push_back(call);
  std::sort(calls.begin(), calls.end(),
            [](const OpenCall& x, const OpenCall& y) {
              return x.started < y.started;
            });
  return calls;
}

std::vector<Wait> EndedWaits(const RunResult& result, int32_t node,
                             int64_t since_ns, size_t end) {
  std::map<uint64_t, size_t> calls;
  std::map<uint64_t, size_t> barriers;
  std::vector<Wait> waits;
  for (size_t i = 0; i < end; ++i) {
    const Event& event = result.events[i];
    if (event.node != node) continue;
    const bool is_call = event.kind == EventKind::kCallCompleted;
    if (event.kind == EventKind::kCallStarted) {
      calls[event.id] = i;
    } else if (event.kind == EventKind::kBarrierEntered) {
      barriers[event.id] = i;
    } else if (is_call || event.kind == EventKind::kBarrierLeft) {
      auto& begun = is_call ? calls : barriers;
      const auto found = begun.find(event.id);
      if (found == begun.end() || event.time_ns < since_ns) continue;
      waits.push_back(
          {.begin = found->second,
           .end = i,
           .ns = event.time_ns - result.events[found->second].time_ns});
      begun.erase(found);
    }
  }
  std::stable_sort(waits.begin(), waits.end(),
                   [](const Wait& x, const Wait& y) { return x.ns > y.ns; });
  return waits;
}

std::vector<std::string> TellWaits(const RunResult& result,
                                   const std::vector<int32_t>& nodes,
                                   size_t end, size_t max_lines) {
  Narrator narrator(result);
  for (size_t i = 0; i < end; ++i) narrator.Tell(result.events[i]);
  const std::set<int32_t> crashed = Crashed(result, end);
  const int64_t now_ns = end == 0 ? 0 : result.events[end - 1].time_ns;
  std::vector<OpenCall> calls = OpenCalls(result, end);
  std::stable_partition(calls.begin(), calls.end(), [&](const OpenCall& open) {
    return Contains(nodes, open.call.first) ||
           Contains(nodes, result.events[open.started].rank());
  });
  std::vector<std::string> lines = TellBarriers(result, end);
  for (const int32_t node : crashed) {
    lines.push_back(
        absl::StrCat(WorkerName(node), " has crashed and is not back"));
  }
  for (const OpenCall& open : calls) {
    lines.push_back(TellCall(result, narrator, crashed, open, now_ns));
  }
  if (lines.size() > max_lines) {
    const size_t more = lines.size() - max_lines + 1;
    lines.resize(max_lines - 1);
    lines.push_back(absl::StrCat("and ", more, " more"));
  }
  return lines;
}

}  // namespace reprise
