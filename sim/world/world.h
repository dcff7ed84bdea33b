// A world: virtual time, the fibers of all nodes, the events to come, and the
// trace of what happened. A run is a function of its seed and options.
//
// Time moves only when no fiber can run, and then to the next event. Events of
// the same time are ordered by a key of their own and not by the order in which
// they were made. Several worlds may run at the same time, each on its own OS
// thread.

#ifndef REPRISE_SIM_WORLD_WORLD_H_
#define REPRISE_SIM_WORLD_WORLD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "agent/runtime/fifo.h"
#include "sim/trace/trace.h"
#include "sim/world/decision.h"
#include "sim/world/node_clock.h"
#include "sim/world/race_annotations.h"
#include "sim/world/scheduler.h"
#include "sim/world/static_guard.h"

namespace reprise {

struct WorldOptions {
  uint64_t seed = 1;
  ScheduleOptions schedule;
  // The decisions to follow; null: they are drawn. Must outlive the world.
  const std::vector<Decision>* recording = nullptr;
  // Keep all events and decisions, not only their hash.
  bool keep_trace = false;
  // A run fails if it exceeds `max_time_ns` (kTimeLimit) or `max_points` (by
  // the rule "progress").
  int64_t max_time_ns = int64_t{3600} * 1'000'000'000;
  int64_t max_points = 50'000'000;
  // Of each fiber's stack; 0: StackPool::kDefaultBytes.
  size_t stack_bytes = 0;
};

struct InterposedWorld;

enum class Outcome : uint8_t {
  kFinished,   // every fiber has ended
  kStopped,    // `World::Fail` was called
  kDeadlock,   // fibers are left, and no event will ever wake them
  kTimeLimit,  // max_time_ns was exceeded
};

std::string_view ToString(Outcome outcome);

// Something that a node has too little of until a time.
struct Shortage {
  int64_t until_ns = 0;
  std::function<void()> on_strike;  // when somebody is refused it

  // Whether there is too little now. To be called by what needs it, as that
  // counts as refused.
  bool Strikes(int64_t now_ns) const {
    if (now_ns >= until_ns) return false;
    on_strike();
    return true;
  }
};

// One incarnation of a simulated machine. A crash ends it, and a restart makes
// a new one.
struct Node {
  World* world = nullptr;
  int32_t rank = -1;
  int32_t incarnation = 0;
  std::string name;   // "w1"
  std::string label;  // "w1", after a restart "w1+1"
  bool alive = true;
  NodeDeath death = NodeDeath::kReset;  // once it is not
  bool paused = false;
  Shortage memory;         // of which its agent is told
  Shortage tensor_memory;  // for tensors on CPUs that arrive
  Shortage threads;
  Shortage descriptors;  // for connections and listeners
  std::vector<Fiber*> paused_ready;
  std::vector<Fiber*> fibers;
  std::map<std::string, int> thread_names;  // number of threads, by name
  // The node's transport thread and the work that waits for it.
  Fiber* io = nullptr;
  bool io_waits = false;
  Fifo<absl::AnyInvocable<void()>> io_work;
  NodeClock* clock = nullptr;   // of the machine
  int64_t clock_offset_ns = 0;  // of the wall clock, when the node began
  int64_t slow_until_ns = 0;    // until then each step takes longer
  int64_t slow_step_ns = 0;
  std::function<void()> on_slow_step;  // when one does

  // The time of the agent's runtime on this node: it starts at the wall clock's
  // reading and goes on with the steady clock.
  absl::Time Now() const;
  // The first virtual time at which that clock reads `time`, in nanoseconds.
  int64_t ToNanoseconds(absl::Time time) const;
};

// Orders events of the same time: first by the source, such as a connection or
// a node, then by the number of the event at its source.
struct EventOrder {
  uint64_t source = 0;
  uint64_t number = 0;
};

// Not thread-safe.
class World {
 public:
  explicit World(const WorldOptions& options);
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  // Destroys `world` if it finished and nothing crashed in it. Otherwise its
  // fibers may be anywhere in the code, and it is abandoned with them.
  static void Dispose(std::unique_ptr<World> world);

  // The world whose `Run` is on this OS thread's stack, or whose fiber this OS
  // thread is; null outside.
  static World* Current() { return running_; }

  // For the scheduler: makes this world the current one of this OS thread.
  void RunOnThisThread();

  // The clock of the machine of this rank, from before its first node on.
  NodeClock& clock(int32_t rank) { return clocks_[rank]; }

  Node& AddNode(int32_t rank, std::string name, int32_t incarnation = 0);

  // Runs to the end. To be called once.
  Outcome Run();

  int64_t now_ns() const { return now_ns_; }
  // Virtual time as an absl::Time; its zero is a fixed date.
  absl::Time Now() const;
  static int64_t ToNanoseconds(absl::Time time);  // rounded up; saturates

  // Runs `event` at `time_ns`, or at once if that has passed. It runs on no
  // fiber and must not block.
  void At(int64_t time_ns, EventOrder order, absl::AnyInvocable<void()> event) {
    Schedule(time_ns, order, EventKeep::kWhatever, std::move(event));
  }
  // The same, unless the run is over by then (`IsOver`): such an event is
  // dropped, and does not move the clock.
  void AtIfRunning(int64_t time_ns, EventOrder order,
                   absl::AnyInvocable<void()> event) {
    Schedule(time_ns, order, EventKeep::kIfRunning, std::move(event));
  }
  // The same for a restart: until then the run is not over.
  void AtRestart(int64_t time_ns, EventOrder order,
                 absl::AnyInvocable<void()> event) {
    ++restarts_to_come_;
    Schedule(time_ns, order, EventKeep::kRestart, std::move(event));
  }

  // Runs `work` on the node's transport thread.
  void PostIo(Node& node, absl::AnyInvocable<void()> work);

  // Whether no fiber is left that must end, and no restart is to come. What is
  // under way then may still arrive.
  bool IsOver() const {
    return scheduler_.num_unfinished() == 0 && restarts_to_come_ == 0;
  }

  // Stops the run as failed. Only the first call counts. Every failure of a
  // run comes through here, a deadlock and a time limit too, so it is the place
  // for a breakpoint.
  void Fail(std::string_view rule, std::string_view detail);
  const std::string& failed_rule() const { return failed_rule_; }
  const std::string& failed_detail() const { return failed_detail_; }

  // The end of `node`: its fibers never run again, and the watchers are called.
  // Does not return if it is called on one of its fibers.
  void Crash(Node& node, NodeDeath death = NodeDeath::kReset);
  void Pause(Node& node);
  void Resume(Node& node);
  void OnCrash(std::function<void(Node&)> watcher) {
    crash_watchers_.push_back(std::move(watcher));
  }

  // Adds an event of `node` (null: of the world) to the trace. Does not return
  // if the event triggers the crash of the node whose fiber this runs on.
  void Record(const Node* node, const EventDetails& details) {
    const InSimulator in;
    if (details.kind >= EventKind::kCallStarted &&
        details.kind <= EventKind::kReply) {
      BeginSection(details);
    }
    trace_.Record(now_ns_, node == nullptr ? -1 : node->rank, details);
  }

  // To be called when fibers will never run again though their node lives on:
  // what they have allocated stays.
  void AbandonFibers();
  // Whether the run finished and nothing was abandoned in it.
  bool clean() const { return clean_; }

  // What each fiber that has not ended waits for, a line for each.
  std::vector<std::string> DescribeFibers() const;

  Scheduler& scheduler() { return scheduler_; }
  Decisions& decisions() { return decisions_; }
  Trace& trace() { return trace_; }
  const WorldOptions& options() const { return options_; }

  // For static_guard.cc.
  PendingStatics& pending_statics() { return pending_statics_; }

  // What sim/interpose keeps for this world while it runs.
  InterposedWorld* interposed = nullptr;

  // For the scheduler. `SetAlarm` makes the event that ends a timed wait.
  // `DeliverNextEvents` moves the time to the next events and delivers them; it
  // returns false if none is left or the run is over.
  void SetAlarm(int64_t time_ns, Fiber& fiber);
  bool DeliverNextEvents();

 private:
  enum class EventKeep : uint8_t { kWhatever, kIfRunning, kRestart };
  struct Event {
    int64_t time_ns;
    EventOrder order;
    Fiber* fiber;         // of an alarm; null for any other event
    uint64_t wait_count;  // of an alarm
    uint32_t slot;        // of any other event: index into `calls_`
    EventKeep keep = EventKeep::kWhatever;
  };
  void Schedule(int64_t time_ns, EventOrder order, EventKeep keep,
                absl::AnyInvocable<void()> event);
  Outcome Judge() const;
  // Of the running fiber, by an event of a call.
  void BeginSection(const EventDetails& details);
  struct Later {  // the order of a heap, whose earliest comes first
    bool operator()(const Event& x, const Event& y) const {
      if (x.time_ns != y.time_ns) return x.time_ns > y.time_ns;
      if (x.order.source != y.order.source) {
        return x.order.source > y.order.source;
      }
      return x.order.number > y.order.number;
    }
  };
  void Push(Event event);

  static inline thread_local constinit World* running_ = nullptr;

  const WorldOptions options_;
  int64_t now_ns_ = 0;
  Decisions decisions_;
  const Place& io_;
  Trace trace_;
  std::vector<Event> events_;  // a heap, earliest first
  std::vector<absl::AnyInvocable<void()>> calls_;
  std::vector<uint32_t> free_calls_;
  int64_t restarts_to_come_ = 0;
  std::map<int32_t, NodeClock> clocks_;  // by rank
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<std::function<void(Node&)>> crash_watchers_;
  bool over_limit_ = false;
  bool clean_ = true;  // finished, without a crash
  std::string failed_rule_;
  std::string failed_detail_;
  PendingStatics pending_statics_;
  Scheduler scheduler_;  // last: its fibers use the rest
};

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_WORLD_H_
