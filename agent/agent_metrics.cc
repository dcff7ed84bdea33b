// What `Agent` shows of itself: see docs/observability.md.

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "agent/agent_impl.h"

namespace reprise {
namespace {

// Of `GetMetrics`: those that only grow.
constexpr const char* kTotals[] = {
    "agent.abandoned_requests", "agent.late_replies",  "agent.listener_reopens",
    "agent.reconnects",         "agent.refused_calls", "agent.retries",
    "agent.cache_hits",         "agent.cache_misses",  "agent.one_way_failures",
};

bool IsTotal(const std::string& key) {
  for (const char* total : kTotals) {
    if (key == total) return true;
  }
  return false;
}

}  // namespace

std::map<std::string, int64_t> Agent::Impl::GetMetrics() {
  const Activity::Counts activity = activity_->counts();
  CachingAllocator::Stats cache;
  if (const auto* caching =
          dynamic_cast<const CachingAllocator*>(allocator_.get())) {
    cache = caching->stats();
  }
  return {
      {"agent.thread_pool_size", worker_pool_.max_threads()},
      {"agent.num_idle_threads", worker_pool_.num_idle_threads()},
      {"agent.client_active_calls", activity.running[Activity::kCall]},
      {"agent.server_active_calls", activity.running[Activity::kHandler]},
      {"agent.server_active_async_calls", activity.running[Activity::kReply]},
      // There is no Python interpreter here, and so no lock to wait for.
      {"agent.gil_average_wait_time_us", 0},
      {"agent.worker_queue", worker_pool_.queue_length()},
      {"agent.callback_queue", callback_pool_.queue_length()},
      {"agent.pending_calls", calls_->num_pending()},
      {"agent.timers", timer_.size()},
      {"agent.pipes",
       peers_.num_pipes() + bulk_peers_.num_pipes() + server_->num_pipes()},
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
  return families;
}

}  // namespace reprise
