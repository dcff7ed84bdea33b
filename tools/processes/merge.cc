#include "tools/processes/merge.h"

#include <charconv>
#include <cstddef>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/status/status.h"

namespace reprise {
namespace {

// A caller's rank, a call's id, a digest: what a cause and its effect share.
using CallKey = std::tuple<int32_t, uint64_t, uint64_t>;

// The rank of worker "w3"; -1 for any other name.
int32_t RankOf(std::string_view name) {
  int32_t rank = -1;
  if (name.size() < 2 || name[0] != 'w') return -1;
  const char* const end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + 1, end, rank);
  return error == std::errc() && rest == end ? rank : -1;
}

class Merger {
 public:
  explicit Merger(std::vector<WorkerTrace> traces)
      : traces_(std::move(traces)), next_(traces_.size(), 0) {
    for (size_t rank = 0; rank < traces_.size(); ++rank) {
      for (const Event& event : traces_[rank].events) {
        ++num_events_;
        Count(event, to_come_);
        if (event.kind == EventKind::kBarrierEntered) {
          entries_[event.id].push_back(
              {event.time_ns - traces_[rank].error_ns, &event});
        }
      }
    }
  }

  std::vector<Event> Run() {
    std::vector<Event> merged;
    merged.reserve(num_events_);
    while (merged.size() < num_events_) {
      // If no event may come next, no execution can have given these traces,
      // and they are merged by time.
      size_t rank = Earliest(/*allowed_only=*/true);
      if (rank == traces_.size()) rank = Earliest(/*allowed_only=*/false);
      const Event& event = traces_[rank].events[next_[rank]++];
      Count(event, seen_);
      if (event.kind == EventKind::kBarrierEntered) Leave(event);
      merged.push_back(event);
    }
    return merged;
  }

 private:
  struct Calls {
    std::map<CallKey, int64_t> starts;
    std::map<CallKey, int64_t> replies;
  };
  struct Entry {
    int64_t earliest_ns;
    const Event* event;
  };

  static void Count(const Event& event, Calls& calls) {
    if (event.kind == EventKind::kCallStarted) {
      ++calls.starts[{event.node, event.id, event.digest()}];
    } else if (event.kind == EventKind::kReply && event.is_ok()) {
      ++calls.replies[{RankOf(event.text), event.id, event.digest()}];
    }
  }

  // Whether `key` has not come yet, but will.
  static bool IsAhead(const CallKey& key, const std::map<CallKey, int64_t>& all,
                      const std::map<CallKey, int64_t>& seen) {
    return all.contains(key) && !seen.contains(key);
  }

  void Leave(const Event& event) {
    std::vector<Entry>& entries = entries_[event.id];
    std::erase_if(entries,
                  [&](const Entry& entry) { return entry.event == &event; });
  }

  bool IsAllowed(const Event& event, int64_t error_ns) const {
    switch (event.kind) {
      case EventKind::kRequest:
        return !IsAhead({RankOf(event.text), event.id, event.digest()},
                        to_come_.starts, seen_.starts);
      case EventKind::kCallCompleted:
        return !event.is_ok() ||
               !IsAhead({event.node, event.id, event.digest()},
                        to_come_.replies, seen_.replies);
      case EventKind::kBarrierLeft: {
        const auto entries = entries_.find(event.id);
        if (!event.is_ok() || entries == entries_.end()) return true;
        for (const Entry& entry : entries->second) {
          if (entry.earliest_ns <= event.time_ns + error_ns) return false;
        }
        return true;
      }
      default:
        return true;
    }
  }

  // The worker whose next event is the earliest, or the number of workers if
  // there is none.
  size_t Earliest(bool allowed_only) const {
    size_t best = traces_.size();
    int64_t best_ns = 0;
    for (size_t rank = 0; rank < traces_.size(); ++rank) {
      const WorkerTrace& trace = traces_[rank];
      if (next_[rank] == trace.events.size()) continue;
      const Event& event = trace.events[next_[rank]];
      if (best != traces_.size() && event.time_ns >= best_ns) continue;
      if (allowed_only && !IsAllowed(event, trace.error_ns)) continue;
      best = rank;
      best_ns = event.time_ns;
    }
    return best;
  }

  const std::vector<WorkerTrace> traces_;
  std::vector<size_t> next_;
  size_t num_events_ = 0;
  Calls to_come_;  // in all the traces
  Calls seen_;
  // Of each barrier: the entries that have not been seen.
  std::map<uint64_t, std::vector<Entry>> entries_;
};

}  // namespace

std::vector<Event> MergeTraces(std::vector<WorkerTrace> traces) {
  return Merger(std::move(traces)).Run();
}

}  // namespace reprise
