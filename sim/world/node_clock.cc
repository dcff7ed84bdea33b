#include "sim/world/node_clock.h"

#include <algorithm>

#include "sim/world/scheduler.h"

namespace reprise {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

}  // namespace

int64_t NodeClock::Steady(int64_t world_ns) const {
  const int64_t passed_ns = world_ns - since_world_ns_;
  const auto gained =
      static_cast<__int128>(passed_ns) * gain_ns_ / kSecondNs;
  return since_steady_ns_ + passed_ns + static_cast<int64_t>(gained);
}

int64_t NodeClock::WorldAt(int64_t steady_ns) const {
  if (steady_ns == Scheduler::kNever) return steady_ns;
  if (gain_ns_ == 0) return steady_ns + since_world_ns_ - since_steady_ns_;
  const auto to_pass = static_cast<__int128>(steady_ns) - since_steady_ns_;
  const __int128 passed =
      to_pass * kSecondNs / (kSecondNs + gain_ns_) + since_world_ns_;
  int64_t world_ns = static_cast<int64_t>(
      std::clamp<__int128>(passed, INT64_MIN / 2, Scheduler::kNever / 2));
  // The division is rounded, and so is what the clock reads.
  if (world_ns == Scheduler::kNever / 2) return Scheduler::kNever - 1;
  while (Steady(world_ns) < steady_ns) ++world_ns;
  return world_ns;
}

void NodeClock::Start(int64_t world_ns) {
  if (gain_ns_ != next_gain_ns_) {
    since_steady_ns_ = Steady(world_ns);
    since_world_ns_ = world_ns;
    gain_ns_ = next_gain_ns_;
  }
  if (!is_true() && on_wrong_start) on_wrong_start();
}

}  // namespace reprise
