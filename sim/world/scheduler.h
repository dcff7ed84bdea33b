// Runs the fibers of a world, one at a time, and decides who runs next.
//
// A fiber runs until it blocks, or until a *point* (a lock, the entry of a
// wait, a start) at which the schedule takes the processor away or lets it
// stall. When nobody can run, the scheduler asks the world for the next event.

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
  kCooperative,  // switch only when blocked, first come first served
  kRandom,       // switch at a point with a probability, to anybody
  kPct,          // the highest of random priorities; `pct_depth` - 1 times in a
                 // run the running fiber's drops below all others
};

struct ScheduleOptions {
  Policy policy = Policy::kRandom;
  double switch_probability = 0.5;  // random
  int pct_depth = 3;
  // About as many points as a run has; PCT spreads its changes over them.
  int64_t pct_length = 20000;
  // At a point, under random and PCT: stall for up to `max_stall_ns`. Without
  // stalls code takes no time, and a timeout and a reply never meet.
  double stall_probability = 0.02;
  int64_t max_stall_ns = 50'000;
  // Points at TensorPipe's own locks too.
  bool tensorpipe_locks = false;
};

class World;
struct Node;

// Not thread-safe: a world lives on one OS thread.
class Scheduler {
 public:
  static constexpr int64_t kNever = INT64_MAX;

  Scheduler(World& world, const ScheduleOptions& options);
  ~Scheduler();

  // Makes a fiber that is ready to run `body`. `node` may not be null.
  Fiber* Start(Node& node, std::string_view name,
               absl::AnyInvocable<void()> body, bool daemon = false);

  // From the OS thread's own stack: runs until nothing can run any more and no
  // event is left, or until `Stop`.
  void Run();

  // After the run, when the fibers that are left are abandoned.
  void ReturnStacks();

  // Ends the run at the next switch; fibers are abandoned.
  void Stop() { stopped_ = true; }
  bool stopped() const { return stopped_; }

  // The rest is for the fiber that runs.

  // Null on the OS thread's own stack and while an event is delivered.
  Fiber* current() const { return in_event_ ? nullptr : current_; }

  // Perhaps lets others run, or stalls.
  void Point(Site& site);

  // Blocks until `Wake`, or until virtual time `deadline_ns`. Returns false on
  // the latter. `site` is where it blocks: the choice of who runs next is made
  // there.
  bool Block(Site& site, WaitReason reason, int64_t deadline_ns);

  // Makes a blocked fiber ready; does nothing for any other.
  void Wake(Fiber* fiber);

  // Ends a timed wait, if it is still the same one.
  void Alarm(Fiber* fiber, uint64_t wait_count);
  bool IsAlarmStale(const Fiber* fiber, uint64_t wait_count) const;

  // A crash: none of the node's fibers ever runs again. Does not return if one
  // of them is running.
  void Abandon(Node& node);

  // Stopped, as by SIGSTOP: the node's fibers do not run until `Resume`.
  void Pause(Node& node);
  void Resume(Node& node);

  // Fibers that are neither done, dead nor daemons.
  int64_t num_unfinished() const { return num_unfinished_; }
  int64_t num_points() const { return num_points_; }
  int64_t num_switches() const { return num_switches_; }
  const std::vector<std::unique_ptr<Fiber>>& fibers() const { return fibers_; }

 private:
  static void Enter(void* fiber);
  void Finish(Fiber& fiber);
  void MakeReady(Fiber* fiber);
  void SwitchAway(Site& site, bool for_good = false);
  Fiber* PickNext(Site& site);
  Fiber* TakeReady(Site& site);
  size_t Choose(Site& site);
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
  Fiber* current_ = nullptr;
  bool in_event_ = false;
  bool stopped_ = false;
  std::deque<Fiber*> ready_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  // Stacks of finished fibers, for reuse within the run.
  std::vector<StackPool::Stack> free_stacks_;
  Fiber* finished_ = nullptr;  // its stack is free once it has been left
  int64_t num_unfinished_ = 0;
  int64_t num_points_ = 0;
  int64_t num_switches_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_SCHEDULER_H_
