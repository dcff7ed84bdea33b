#include "agent/metrics/metrics.h"

#include <memory>
#include <new>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

using Labels = std::vector<std::pair<std::string, std::string>>;

Labels With(Labels labels, std::string_view name, std::string_view value) {
  labels.emplace_back(name, value);
  return labels;
}

MetricSample SampleOf(const Histogram& histogram, Labels labels) {
  MetricSample sample;
  sample.labels = std::move(labels);
  // The sum is read first: a value that is recorded meanwhile must not be in
  // the sum alone.
  sample.sum = static_cast<double>(histogram.sum_nanoseconds()) * 1e-9;
  const Histogram::Counts counts = histogram.counts();
  for (size_t i = 0; i < Histogram::kNumBounds; ++i) {
    sample.count += counts[i];
    sample.buckets.push_back(
        {static_cast<double>(Histogram::BoundNanoseconds(i)) * 1e-9,
         sample.count});
  }
  sample.count += counts[Histogram::kNumBounds];
  return sample;
}

struct CounterOf {
  const char* name;
  const char* help;
  Counter PeerCounters::*counter;
};

constexpr CounterOf kClientCounters[] = {
    {"reprise_client_calls_total", "Calls to the peer that were started.",
     &PeerCounters::calls},
    {"reprise_client_call_errors_total", "Calls to the peer that failed.",
     &PeerCounters::errors},
    {"reprise_client_sent_bytes_total",
     "Bytes of requests that were written to the peer.",
     &PeerCounters::sent_bytes},
    {"reprise_client_received_bytes_total",
     "Bytes of replies that came from the peer.",
     &PeerCounters::received_bytes},
    {"reprise_client_late_replies_total",
     "Replies to calls that were completed before.",
     &PeerCounters::late_replies},
    {"reprise_client_reconnects_total",
     "Connections to the peer after the first one.", &PeerCounters::reconnects},
};

// Gauges.
constexpr CounterOf kClientLoads[] = {
    {"reprise_client_unwritten_requests",
     "Requests that wait to be written to the peer.", &PeerCounters::unwritten},
    {"reprise_client_unwritten_request_bytes",
     "Bytes of requests that wait to be written to the peer.",
     &PeerCounters::unwritten_bytes},
};

constexpr CounterOf kServerCounters[] = {
    {"reprise_server_requests_total", "Requests that came from the peer.",
     &PeerCounters::calls},
    {"reprise_server_error_replies_total",
     "Requests of the peer that were answered with an error.",
     &PeerCounters::errors},
    {"reprise_server_sent_bytes_total",
     "Bytes of replies that were written to the peer.",
     &PeerCounters::sent_bytes},
    {"reprise_server_received_bytes_total",
     "Bytes of requests that came from the peer.",
     &PeerCounters::received_bytes},
};

void AppendCounter(const CounterOf& of, MetricFamily::Type type,
                   const Metrics::Snapshot& peers, const Labels& labels,
                   std::vector<MetricFamily>& families) {
  MetricFamily family{of.name, of.help, type, {}};
  for (const auto& [name, counters] : peers) {
    MetricSample sample;
    sample.labels = With(labels, "peer", name);
    sample.value = static_cast<double>((counters->*of.counter).value());
    family.samples.push_back(std::move(sample));
  }
  families.push_back(std::move(family));
}

}  // namespace

LatencyByType::~LatencyByType() {
  for (const std::atomic<Histogram*>& histogram : histograms_) {
    delete histogram.load();
  }
}

void LatencyByType::Record(MessageType type, absl::Duration latency) {
  const int32_t value = static_cast<int32_t>(type);
  size_t i = 0;
  for (; i < kTypes; ++i) {
    int32_t present = types_[i].load(std::memory_order_relaxed);
    if (present == 0 && types_[i].compare_exchange_strong(
                            present, value, std::memory_order_relaxed)) {
      break;
    }
    if (present == value) break;
  }
  Histogram* histogram = histograms_[i].load(std::memory_order_acquire);
  if (histogram == nullptr) {
    // The callers are callbacks that must not throw, so a value for which there
    // is no memory is dropped.
    std::unique_ptr<Histogram> made(new (std::nothrow) Histogram());
    if (made == nullptr) return;
    if (histograms_[i].compare_exchange_strong(histogram, made.get(),
                                               std::memory_order_acq_rel)) {
      histogram = made.release();
    }
  }
  histogram->Record(absl::ToInt64Nanoseconds(latency));
}

void LatencyByType::ForEach(
    const std::function<void(MessageType, const Histogram&)>& f) const {
  for (size_t i = 0; i <= kTypes; ++i) {
    const Histogram* const histogram =
        histograms_[i].load(std::memory_order_acquire);
    if (histogram == nullptr) continue;
    uint64_t total = 0;
    for (const uint64_t count : histogram->counts()) total += count;
    if (total == 0) continue;
    f(i == kTypes
          ? MessageType::kUnknown
          : static_cast<MessageType>(types_[i].load(std::memory_order_relaxed)),
      *histogram);
  }
}

PeerCounters& Metrics::Find(Peers& peers, std::string_view name) {
  MutexLock lock(mutex_);
  auto found = peers.find(name);
  if (found == peers.end()) {
    if (peers.size() >= kMaxPeers) name = kOthers;
    found = peers.try_emplace(std::string(name)).first;
    if (found->second == nullptr) {
      found->second = std::make_unique<PeerCounters>();
    }
  }
  return *found->second;
}

Metrics::Snapshot Metrics::List(const Peers& peers) {
  MutexLock lock(mutex_);
  Snapshot list;
  for (const auto& [name, counters] : peers) {
    list.emplace_back(name, counters.get());
  }
  return list;
}

std::string MessageTypeLabel(MessageType type) {
  switch (type) {
    case MessageType::kScriptCall:
      return "script_call";
    case MessageType::kPythonCall:
      return "python_call";
    case MessageType::kUnknown:
      return "other";
    default:
      return absl::StrCat("0x", absl::Hex(static_cast<uint32_t>(type)));
  }
}

void AppendPeerFamilies(Metrics& metrics, const Labels& labels,
                        std::vector<MetricFamily>& families) {
  const Metrics::Snapshot callees = metrics.callees();
  const Metrics::Snapshot callers = metrics.callers();
  using Type = MetricFamily::Type;
  for (const CounterOf& of : kClientCounters) {
    AppendCounter(of, Type::kCounter, callees, labels, families);
  }
  for (const CounterOf& of : kClientLoads) {
    AppendCounter(of, Type::kGauge, callees, labels, families);
  }
  MetricFamily latency{
      "reprise_client_call_seconds",
      "Time from sending a call to its completion, however it ended.",
      MetricFamily::Type::kHistogram,
      {}};
  for (const auto& [name, counters] : callees) {
    const Labels peer = With(labels, "peer", name);
    counters->latency.ForEach([&](MessageType type, const Histogram& h) {
      latency.samples.push_back(
          SampleOf(h, With(peer, "type", MessageTypeLabel(type))));
    });
  }
  families.push_back(std::move(latency));
  for (const CounterOf& of : kServerCounters) {
    AppendCounter(of, Type::kCounter, callers, labels, families);
  }
  families.push_back({"reprise_server_queue_seconds",
                      "Time from a request's arrival to its handler's start.",
                      MetricFamily::Type::kHistogram,
                      {SampleOf(metrics.queue_wait, labels)}});
  families.push_back({"reprise_server_handler_seconds",
                      "Time that the handler of a request took to return.",
                      MetricFamily::Type::kHistogram,
                      {SampleOf(metrics.handler_time, labels)}});
}

}  // namespace reprise
