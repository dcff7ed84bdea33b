// What an agent counts, always: calls, bytes, errors and latencies, by peer.
//
// To count costs relaxed additions to atomics and no lock. A peer's counters
// are made when a pipe to or from it is, its histograms with the first call of
// their type, and live as long as the agent: those of a peer that came back go
// on.

#ifndef REPRISE_AGENT_METRICS_METRICS_H_
#define REPRISE_AGENT_METRICS_METRICS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "agent/message.h"
#include "agent/metrics/histogram.h"
#include "agent/metrics/metric_family.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Thread-safe.
class Counter {
 public:
  void Add(int64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_ = 0;
};

// The latencies of calls by the type of their requests: the first types that
// are met have a histogram each, all others share one. Thread-safe.
class LatencyByType {
 public:
  LatencyByType() = default;
  LatencyByType(const LatencyByType&) = delete;
  LatencyByType& operator=(const LatencyByType&) = delete;
  ~LatencyByType();

  // Does not throw: a value that needs a histogram for which there is no memory
  // is dropped.
  void Record(MessageType type, absl::Duration latency);

  // `f(type, histogram)`; the shared one comes as MessageType::kUnknown. Those
  // without a value are left out.
  void ForEach(
      const std::function<void(MessageType, const Histogram&)>& f) const;

 private:
  static constexpr size_t kTypes = 4;
  // 0: free. Never changes once it is set.
  std::array<std::atomic<int32_t>, kTypes> types_{};
  // Made with the first value, and owned: most peers are called with one type,
  // and those that only call us with none.
  std::array<std::atomic<Histogram*>, kTypes + 1> histograms_{};
};

// Of one peer, in one direction: our calls to it, or its calls to us.
struct PeerCounters {
  Counter calls;           // started; or requests that came
  Counter sent_bytes;      // payloads and tensors that the transport has taken
  Counter received_bytes;  // likewise that have arrived whole
  Counter errors;          // calls that failed; or error replies given
  // Of our calls only:
  Counter late_replies;
  Counter reconnects;
  // Requests that the transport has not taken, and their bytes. They fall too.
  Counter unwritten;
  Counter unwritten_bytes;
  LatencyByType latency;  // from `Send` to the completion, however it ended
};

// One call of ours that was counted as started.
struct CallMetrics {
  PeerCounters* peer = nullptr;  // null: not counted
  MessageType type = MessageType::kUnknown;
  absl::Time started;

  void Completed(absl::Time now, bool ok) const {
    if (peer == nullptr) return;
    peer->latency.Record(type, now - started);
    if (!ok) peer->errors.Add();
  }
};

// Thread-safe. Held by whatever counts.
class Metrics {
 public:
  // Beyond so many names in a direction, further ones share one entry,
  // `kOthers`: what peers claim to be called must not fill the memory.
  static constexpr size_t kMaxPeers = 4096;
  static constexpr char kOthers[] = "(others)";

  explicit Metrics(Runtime& runtime) : mutex_(runtime, "Metrics") {}

  // Valid as long as this. Once per pipe, not per call.
  PeerCounters& Callee(std::string_view name) { return Find(callees_, name); }
  PeerCounters& Caller(std::string_view name) { return Find(callers_, name); }

  // By name.
  using Snapshot = std::vector<std::pair<std::string, const PeerCounters*>>;
  Snapshot callees() { return List(callees_); }
  Snapshot callers() { return List(callers_); }

  // Of all requests: from the arrival to the handler's start, and the time that
  // the handler took to return.
  Histogram queue_wait;
  Histogram handler_time;

  Counter refused_calls;  // that never were calls: see `Agent::Send`
  Counter
      one_way_failures;  // of `Agent::SendOneWay`, before and after the write

 private:
  using Peers =
      std::map<std::string, std::unique_ptr<PeerCounters>, std::less<>>;

  PeerCounters& Find(Peers& peers, std::string_view name);
  Snapshot List(const Peers& peers);

  Mutex mutex_;  // guards the maps, not what the entries point to
  Peers callees_;
  Peers callers_;
};

// The families of per-peer counters and of the histograms, "reprise_client_..."
// and "reprise_server_...", the first labels being `labels`.
void AppendPeerFamilies(
    Metrics& metrics,
    const std::vector<std::pair<std::string, std::string>>& labels,
    std::vector<MetricFamily>& families);

// "script_call", "python_call", "other" for kUnknown, else the number.
std::string MessageTypeLabel(MessageType type);

}  // namespace reprise

#endif  // REPRISE_AGENT_METRICS_METRICS_H_
