// The metrics of an agent: see docs/observability.md.

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "agent/agent_impl.h"

namespace reprise {
namespace {

// The keys of `GetMetrics` whose values only grow.
constexpr const char* kTotals[] = {
    "agent.abandoned_requests",
    "agent.late_replies",
    "agent.signs_of_life",
    "agent.listener_reopens",
    "agent.reconnects",
    "agent.refused_calls",
    "agent.retries",
    "agent.refused_connections",
    "agent.refused_keyed_requests",
    "agent.refused_requests_for_bytes",
    "agent.refused_requests_for_calls",
    "agent.cache_hits",
    "agent.cache_misses",
    "agent.gpu_cache_hits",
    "agent.gpu_cache_misses",
    "agent.pinned_cache_hits",
    "agent.pinned_cache_misses",
    "agent.one_way_failures",
};

bool IsTotal(const std::string& key) {
  for (const char* total : kTotals) {
    if (key == total) return true;
  }
  return false;
}

using LoadsByPeer = std::vector<std::pair<std::string, Admission::Loads>>;

struct LoadFamily {
  const char* name;
  const char* help;
  size_t (*value)(const Admission::Loads& loads);
};

constexpr LoadFamily kLoadFamilies[] = {
    {"reprise_server_queued_requests",
     "Requests of the peer that wait for a thread.",
     [](const Admission::Loads& loads) { return loads.queued.calls; }},
    {"reprise_server_queued_bytes",
     "Bytes of the peer's requests that wait for a thread.",
     [](const Admission::Loads& loads) { return loads.queued.bytes; }},
    {"reprise_server_running_requests",
     "Requests of the peer that were started and not ended.",
     [](const Admission::Loads& loads) { return loads.running.calls; }},
    {"reprise_server_running_bytes",
     "Bytes of the peer's requests that were started and not ended.",
     [](const Admission::Loads& loads) { return loads.running.bytes; }},
    {"reprise_server_unwritten_replies", "Replies that the peer has not taken.",
     [](const Admission::Loads& loads) { return loads.unwritten.calls; }},
    {"reprise_server_unwritten_reply_bytes",
     "Bytes of replies that the peer has not taken.",
     [](const Admission::Loads& loads) { return loads.unwritten.bytes; }},
    {"reprise_server_connections", "Connections that the peer has opened.",
     [](const Admission::Loads& loads) { return loads.connections; }},
};

void AppendLoadFamilies(
    const LoadsByPeer& peers,
    const std::vector<std::pair<std::string, std::string>>& labels,
    std::vector<MetricFamily>& families) {
  for (const LoadFamily& of : kLoadFamilies) {
    MetricFamily family{of.name, of.help, MetricFamily::Type::kGauge, {}};
    for (const auto& [name, loads] : peers) {
      MetricSample sample;
      sample.labels = labels;
      sample.labels.emplace_back("peer", name);
      sample.value = static_cast<double>(of.value(loads));
      family.samples.push_back(std::move(sample));
    }
    families.push_back(std::move(family));
  }
}

struct GpuFamily {
  const char* name;
  const char* help;
  MetricFamily::Type type;
  int64_t GpuMemory::Stats::*value;
};

constexpr GpuFamily kGpuFamilies[] = {
    {"reprise_gpu_memory_used_bytes", "Memory of the GPU that storages have.",
     MetricFamily::Type::kGauge, &GpuMemory::Stats::used_bytes},
    {"reprise_gpu_memory_cached_bytes",
     "Memory of the GPU that is kept for reuse.", MetricFamily::Type::kGauge,
     &GpuMemory::Stats::cached_bytes},
    {"reprise_gpu_memory_cache_hits_total",
     "Allocations on the GPU from what was kept.", MetricFamily::Type::kCounter,
     &GpuMemory::Stats::hits},
    {"reprise_gpu_memory_cache_misses_total",
     "Allocations on the GPU that the driver made.",
     MetricFamily::Type::kCounter, &GpuMemory::Stats::misses},
};

void AppendGpuFamilies(
    const Devices& devices,
    const std::vector<std::pair<std::string, std::string>>& labels,
    std::vector<MetricFamily>& families) {
  for (const GpuFamily& of : kGpuFamilies) {
    MetricFamily family{of.name, of.help, of.type, {}};
    for (int i = 0; i < devices.gpu_count(); ++i) {
      MetricSample sample;
      sample.labels = labels;
      sample.labels.emplace_back("device", GpuDevice(i).ToString());
      sample.value =
          static_cast<double>(devices.gpu_memory()->stats(i).*of.value);
      family.samples.push_back(std::move(sample));
    }
    families.push_back(std::move(family));
  }
}

}  // namespace

std::map<std::string, int64_t> Agent::Impl::GetMetrics() {
  const Activity::Counts activity = activity_->counts();
  const Admission::Loads loads = server_->admission().loads();
  const Admission::Refused refused = server_->admission().refused();
  const auto number = [](size_t n) { return static_cast<int64_t>(n); };
  int64_t unwritten_requests = 0;
  int64_t unwritten_request_bytes = 0;
  for (const auto& [name, counters] : metrics_.callees()) {
    unwritten_requests += counters->unwritten.value();
    unwritten_request_bytes += counters->unwritten_bytes.value();
  }
  CachingAllocator::Stats cache;
  if (const auto* caching =
          dynamic_cast<const CachingAllocator*>(allocator_.get())) {
    cache = caching->stats();
  }
  // Of the process: its agents share them.
  GpuMemory::Stats gpus;
  GpuMemory::Stats pinned;
  if (devices_ != nullptr && devices_->gpu_memory() != nullptr) {
    pinned = devices_->gpu_memory()->pinned_stats();
    for (int i = 0; i < devices_->gpu_count(); ++i) {
      const GpuMemory::Stats gpu = devices_->gpu_memory()->stats(i);
      gpus.used_bytes += gpu.used_bytes;
      gpus.cached_bytes += gpu.cached_bytes;
      gpus.hits += gpu.hits;
      gpus.misses += gpu.misses;
    }
  }
  return {
      {"agent.thread_pool_size", worker_pool_.max_threads()},
      {"agent.num_idle_threads", worker_pool_.num_idle_threads()},
      {"agent.client_active_calls", activity.running[Activity::kCall]},
      {"agent.server_active_calls", activity.running[Activity::kHandler]},
      {"agent.server_active_async_calls", activity.running[Activity::kReply]},
      // There is no Python interpreter here, and so no lock to wait for.
      {"agent.gil_average_wait_time_us", 0},
      {"agent.worker_queue", number(loads.queued.calls)},
      {"agent.worker_queue_bytes", number(loads.queued.bytes)},
      {"agent.running_requests", number(loads.running.calls)},
      {"agent.running_bytes", number(loads.running.bytes)},
      {"agent.unwritten_replies", number(loads.unwritten.calls)},
      {"agent.unwritten_reply_bytes", number(loads.unwritten.bytes)},
      {"agent.unwritten_requests", unwritten_requests},
      {"agent.unwritten_request_bytes", unwritten_request_bytes},
      {"agent.connections", number(loads.connections)},
      {"agent.refused_requests_for_calls", refused.for_calls},
      {"agent.refused_requests_for_bytes", refused.for_bytes},
      {"agent.refused_keyed_requests", server_->num_refused_keys()},
      {"agent.refused_connections", refused.connections},
      {"agent.callback_queue", callback_pool_.queue_length()},
      {"agent.pending_calls", calls_->num_pending()},
      {"agent.timers", timer_.size()},
      {"agent.pipes",
       peers_.num_pipes() + bulk_peers_.num_pipes() + server_->num_pipes()},
      {"agent.signs_of_life",
       peers_.num_signs_of_life() + bulk_peers_.num_signs_of_life()},
      {"agent.late_replies",
       peers_.num_late_replies() + bulk_peers_.num_late_replies()},
      {"agent.reconnects",
       peers_.num_reconnects() + bulk_peers_.num_reconnects()},
      {"agent.listener_reopens", acceptor_.num_reopens()},
      {"agent.retries", retrier_->num_retries()},
      {"agent.abandoned_requests", server_->num_abandoned()},
      {"agent.refused_calls", metrics_.refused_calls.value()},
      {"agent.one_way_failures", metrics_.one_way_failures.value()},
      {"agent.unanswered_requests", gate_->num_unanswered()},
      {"agent.waiting_requests", gate_->num_waiting()},
      {"agent.cached_bytes", cache.cached_bytes},
      {"agent.cache_hits", cache.hits},
      {"agent.cache_misses", cache.misses},
      {"agent.gpu_used_bytes", gpus.used_bytes},
      {"agent.gpu_cached_bytes", gpus.cached_bytes},
      {"agent.gpu_cache_hits", gpus.hits},
      {"agent.gpu_cache_misses", gpus.misses},
      {"agent.pinned_used_bytes", pinned.used_bytes},
      {"agent.pinned_cached_bytes", pinned.cached_bytes},
      {"agent.pinned_cache_hits", pinned.hits},
      {"agent.pinned_cache_misses", pinned.misses},
  };
}

std::map<std::string, NetworkData> Agent::Impl::GetNetworkData() {
  std::map<std::string, NetworkData> data;
  for (const auto& [name, counters] : metrics_.callees()) {
    data[name] = {counters->calls.value(), counters->sent_bytes.value(),
                  counters->received_bytes.value(), counters->errors.value()};
  }
  return data;
}

std::map<std::string, std::string> Agent::Impl::GetDebugInfo() {
  std::map<std::string, std::string> info;
  for (const auto& [key, value] : GetMetrics()) info[key] = absl::StrCat(value);
  for (const auto& [name, data] : GetNetworkData()) {
    const std::string prefix = absl::StrCat("peer.", PrintableLabel(name), ".");
    info[prefix + "calls"] = absl::StrCat(data.calls);
    info[prefix + "errors"] = absl::StrCat(data.errors);
    info[prefix + "sent_bytes"] = absl::StrCat(data.sent_bytes);
    info[prefix + "received_bytes"] = absl::StrCat(data.received_bytes);
  }
  for (const auto& [name, counters] : metrics_.callees()) {
    info[absl::StrCat("peer.", PrintableLabel(name),
                      ".unwritten_request_bytes")] =
        absl::StrCat(counters->unwritten_bytes.value());
  }
  const auto describe = [&](PeerSet& peers, const char* key) {
    for (const auto& [id, state] : peers.DescribePipes()) {
      const MemberPtr peer = workers_.Find(id);
      if (peer == nullptr) continue;  // it has left
      info[absl::StrCat("peer.", PrintableLabel(peer->name), key)] = state;
    }
  };
  describe(peers_, ".connection");
  describe(bulk_peers_, ".bulk_connection");
  return info;
}

std::vector<MetricFamily> Agent::Impl::GetMetricFamilies() {
  const std::vector<std::pair<std::string, std::string>> labels = {
      {"worker", workers_.self().name}};
  std::vector<MetricFamily> families;
  for (const auto& [key, value] : GetMetrics()) {
    MetricFamily family;
    family.name =
        absl::StrCat("reprise_", absl::StrReplaceAll(key, {{".", "_"}}),
                     IsTotal(key) ? "_total" : "");
    family.help = absl::StrCat("The metric ", key, ".");
    family.type = IsTotal(key) ? MetricFamily::Type::kCounter
                               : MetricFamily::Type::kGauge;
    MetricSample sample;
    sample.labels = labels;
    sample.value = static_cast<double>(value);
    family.samples.push_back(std::move(sample));
    families.push_back(std::move(family));
  }
  AppendPeerFamilies(metrics_, labels, families);
  AppendLoadFamilies(server_->admission().loads_by_peer(), labels, families);
  if (devices_ != nullptr && devices_->gpu_count() > 0) {
    AppendGpuFamilies(*devices_, labels, families);
  }
  return families;
}

}  // namespace reprise
