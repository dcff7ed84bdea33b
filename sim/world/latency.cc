#include "sim/world/latency.h"

#include "sim/random.h"

namespace reprise {

int64_t DrawLatencyNs(Decisions& decisions, const Site& site,
                      const LatencyRange& range) {
  uint64_t bits = site.Bits(DecisionKind::kLatency);
  auto latency_ns = static_cast<uint64_t>(range.min_ns) +
                    Below(bits, static_cast<uint64_t>(range.spread_ns) + 1);
  if (range.spike_one_in > 0) {
    bits = Mix(bits);
    if (Below(bits, static_cast<uint64_t>(range.spike_one_in)) == 0) {
      latency_ns += Below(Mix(bits), static_cast<uint64_t>(range.spike_max_ns));
    }
  }
  decisions.CountMade();
  if (decisions.replaying()) {
    latency_ns =
        decisions.Recorded(site, DecisionKind::kLatency).value_or(latency_ns);
  }
  return static_cast<int64_t>(latency_ns);
}

}  // namespace reprise
