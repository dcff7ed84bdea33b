// How long something takes that a machine does for the code under test: a
// message, the work of a GPU, a copy.

#ifndef REPRISE_SIM_WORLD_LATENCY_H_
#define REPRISE_SIM_WORLD_LATENCY_H_

#include <cstdint>

#include "sim/world/decision.h"
#include "sim/world/site.h"

namespace reprise {

struct LatencyRange {
  int64_t min_ns = 0;
  int64_t spread_ns = 0;     // uniform on top
  int64_t spike_one_in = 0;  // 0: no spikes
  int64_t spike_max_ns = 0;  // uniform on top of the rest
};

// Makes the decision of kind kLatency at the present visit to `site`.
int64_t DrawLatencyNs(Decisions& decisions, const Site& site,
                      const LatencyRange& range);

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_LATENCY_H_
