// Runs the fibers of a world, one at a time, and decides which runs next.
//
// A fiber runs until it blocks, or until a *point* (a lock, the begin of a
// wait, the start of a thread) at which the schedule lets another fiber run or
// lets this one stall. When no fiber can run, the scheduler asks the world for
// the next event.

#ifndef REPRISE_SIM_WORLD_SCHEDULER_H_
#define REPRISE_SIM_WORLD_SCHEDULER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "sim/world/decision.h"
#include "sim/world/fiber.h"

namespace reprise {

enum class Policy : uint8_t {
  kCooperative,  // a fiber runs until it blocks; the next is the one that has
                 // waited longest
  kRandom,       // at each point, with a probability, any other fiber runs
  kPct,          // fibers have random priorities and the highest runs;
                 // `pct_depth` - 1 times in a run the priority of the running
                 // fiber drops below all others
};

struct ScheduleOptions {
  Policy policy = Policy::kRandom;
  double switch_probability = 0.5;  // random
  int pct_depth = 3;
  // About the number of points in a run. PCT spreads its changes over them.
  int64_t pct_length = 20000;
  // The probability at each point, under random and PCT, that the fiber stalls
  // for up to `max_stall_ns`. Without stalls code takes no virtual time, and a
  // timeout would never expire just when the reply arrives.
  double stall_probability = 0.02;
  int64_t max_stall_ns = 50'000;
  // Another number draws another schedule for the same seed, whose latencies
  // and other draws stay.
  uint64_t salt = 0;
  // Whether TensorPipe's own locks are points too.
  bool tensorpipe_locks = false;
  ContextKind context = kDefaultContext;
};

class World;
struct Node;

// Not thread-safe: a world lives on one OS thread, or on those of its fibers,
// of which one runs at a time.
class Scheduler {
 public:
  static constexpr int64_t kNever = INT64_MAX;

  Scheduler(World& world, const ScheduleOptions& options);
  ~Scheduler();

  // Makes a fiber that is ready to run `body`. A daemon does not keep the run
  // from ending.
  Fiber* Start(Node& node, std::string_view name,
               absl::AnyInvocable<void()> body, bool daemon = false);

  // Called on the OS thread's own stack. Returns when no fiber can run and no
  // event is left, or after `Stop`.
  void Run();

  // To be called after the run if fibers are left, which are abandoned: none of
  // their OS threads is left behind, and their stacks can be used again.
  void ReturnStacks();

  // Ends the run at the next switch; fibers are abandoned.
  void Stop() { stopped_ = true; }
  bool stopped() const { return stopped_; }

  // The rest is called by the fiber that runs, or by the world's events.

  // Null on the OS thread's own stack and while an event is delivered.
  Fiber* current() const { return in_event_ ? nullptr : current_; }

  // The site at which the running fiber makes decisions at `place`; on no fiber
  // that of the node.
  Site& SiteHere(const Node& node, const Place& place);

  // A point: the schedule may let another fiber run here, or stall this one.
  void MaybePreempt(Site& site);

  // Blocks until `Wake` or until the virtual time `deadline_ns`, and returns
  // false in the latter case. The choice of the next fiber is made at `site`.
  bool Block(Site& site, WaitReason reason, int64_t deadline_ns);

  // From now on the run does not wait for `fiber`.
  void MakeDaemon(Fiber& fiber);

  // `fiber`, which is not the one that runs, never runs again.
  void Kill(Fiber& fiber);

  // Makes a blocked fiber ready; does nothing for any other.
  void Wake(Fiber* fiber);

  // Ends a timed wait, unless the fiber has begun another wait since.
  void Alarm(Fiber* fiber, uint64_t wait_count);
  bool IsAlarmStale(const Fiber* fiber, uint64_t wait_count) const;

  // A crash: none of the node's fibers ever runs again. Does not return if it
  // is called on one of them.
  void Abandon(Node& node);

  // As SIGSTOP does: the node's fibers do not run until `Resume`.
  void Pause(Node& node);
  void Resume(Node& node);

  // Fibers that are neither done, dead nor daemons.
  int64_t num_unfinished() const { return num_unfinished_; }
  int64_t num_points() const { return num_points_; }
  int64_t num_switches() const { return num_switches_; }
  const std::vector<std::unique_ptr<Fiber>>& fibers() const { return fibers_; }

 private:
  static void Enter(void* fiber);
  ExecutionContext MakeContext(Fiber& fiber);
  void Finish(Fiber& fiber);
  void MakeReady(Fiber* fiber);
  void SwitchAway(Site& site, bool for_good = false);
  Fiber* PickNext(Site& site);
  Fiber* TakeReady(Site& site);
  size_t Choose(Site& site);
  uint64_t Bits(const Site& site, DecisionKind kind) const {
    const uint64_t bits = site.Bits(kind);
    return options_.salt == 0 ? bits : Mix(bits ^ options_.salt);
  }
  int64_t DecideStall(Site& site);
  bool DecideSwitch(Site& site);

  World& world_;
  const ScheduleOptions options_;
  const uint64_t switch_below_;  // of 2^32
  const uint64_t stall_below_;
  std::vector<int64_t> change_points_;  // ascending
  size_t next_change_ = 0;

  ExecutionContext main_;
  Site* main_site_;
  const Place& end_;
  const Place& crash_;
  const Place& pause_;
  Fiber* current_ = nullptr;
  bool in_event_ = false;
  bool stopped_ = false;
  std::deque<Fiber*> ready_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  // Stacks of finished fibers, for reuse within the run.
  std::vector<StackPool::Stack> free_stacks_;
  Fiber* finished_ = nullptr;  // its context is free after the switch away
  int64_t num_unfinished_ = 0;
  int64_t num_points_ = 0;
  int64_t num_switches_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_SCHEDULER_H_
