#include "sim/world/node_clock.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "sim/world/scheduler.h"

namespace reprise {
namespace {

constexpr __int128 kSecondNs = 1'000'000'000;

// The divisor is positive.
__int128 FloorOf(__int128 dividend, __int128 divisor) {
  const __int128 quotient = dividend / divisor;
  return quotient * divisor > dividend ? quotient - 1 : quotient;
}

}  // namespace

int64_t NodeClock::Steady(int64_t world_ns) const {
  // Nearly always: the agent reads its clock all the time.
  if (gain_ns_ == 0) return since_steady_ns_ + world_ns - since_world_ns_;
  const __int128 passed = world_ns - since_world_ns_;
  return since_steady_ns_ + static_cast<int64_t>(FloorOf(
                                passed * (kSecondNs + gain_ns_), kSecondNs));
}

int64_t NodeClock::WorldAt(int64_t steady_ns) const {
  if (steady_ns == Scheduler::kNever) return steady_ns;
  if (gain_ns_ == 0 && since_world_ns_ == since_steady_ns_) return steady_ns;
  // Rounded up, as what the clock reads is rounded down.
  const __int128 to_pass = static_cast<__int128>(steady_ns) - since_steady_ns_;
  const __int128 world_ns =
      since_world_ns_ - FloorOf(-to_pass * kSecondNs, kSecondNs + gain_ns_);
  return static_cast<int64_t>(
      std::clamp<__int128>(world_ns, INT64_MIN, Scheduler::kNever - 1));
}

void NodeClock::Drift(int64_t gain_ns) {
  if (gain_ns <= -kSecondNs) {
    std::fputs("A clock does not stand still or run backwards.\n", stderr);
    std::abort();
  }
  next_gain_ns_ = gain_ns;
}

void NodeClock::Start(int64_t world_ns) {
  on_jump_seen = nullptr;
  if (gain_ns_ != next_gain_ns_) {
    since_steady_ns_ = Steady(world_ns);
    since_world_ns_ = world_ns;
    gain_ns_ = next_gain_ns_;
  }
  if (!is_true() && on_wrong_start) on_wrong_start();
}

}  // namespace reprise
