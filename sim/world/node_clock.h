// The clock of one simulated machine, which need not agree with the world's:
// its rate may be wrong, and its time of day may be set. It outlives restarts
// of its node.
//
// All times are nanoseconds; those of the world are virtual time. The steady
// clock reads 0 when the world begins and never goes backwards. The wall clock
// is the steady clock plus an offset. Not thread-safe: it is used by whoever
// runs in the world.

#ifndef REPRISE_SIM_WORLD_NODE_CLOCK_H_
#define REPRISE_SIM_WORLD_NODE_CLOCK_H_

#include <cstdint>
#include <functional>
#include <utility>

namespace reprise {

class NodeClock {
 public:
  int64_t Steady(int64_t world_ns) const;

  // The first time of the world at which the steady clock reads `steady_ns` or
  // more. Scheduler::kNever stays what it is, and what is too far away becomes
  // the latest time before it.
  int64_t WorldAt(int64_t steady_ns) const;

  // By how much the wall clock is ahead of the steady clock.
  int64_t offset_ns() const { return offset_ns_; }

  // The same, for whoever runs on the node and reads the wall clock.
  int64_t ReadOffset() {
    if (on_jump_seen) std::exchange(on_jump_seen, nullptr)();
    return offset_ns_;
  }

  // Somebody sets the wall clock, forward or backward.
  void Jump(int64_t ns) { offset_ns_ += ns; }

  // The clock gains so much in each second, or loses it; a clock that loses a
  // second or more ends the process. It is so from the node's next start on:
  // the rate of a clock does not change while it runs, or else a deadline would
  // be another time of the world than it was when it was set.
  void Drift(int64_t gain_ns);

  // A node that has this clock starts.
  void Start(int64_t world_ns);

  bool is_true() const { return offset_ns_ == 0 && gain_ns_ == 0; }
  // Called at each start with a clock that is not true.
  std::function<void()> on_wrong_start;
  // Called once, when the wall clock is read before the node's next start.
  std::function<void()> on_jump_seen;

 private:
  // At this moment the present rate began.
  int64_t since_world_ns_ = 0;
  int64_t since_steady_ns_ = 0;
  int64_t gain_ns_ = 0;
  int64_t next_gain_ns_ = 0;
  int64_t offset_ns_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_NODE_CLOCK_H_
