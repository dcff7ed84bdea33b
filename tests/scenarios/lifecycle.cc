// A group's life in a minute: four workers make some 200 calls, unevenly, join
// in the middle, go on, join again and leave.

#include <memory>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kJoinTimeout = absl::Minutes(2);
constexpr int kBursts = 3;  // in each phase

class Life {
 public:
  Life(Worker& worker, EchoAgent& agent)
      : worker_(worker), agent_(agent), random_(worker.random("life")) {}

  void Live() {
    Phase();
    if (!pending_.empty()) worker_.Reached("join with calls running");
    worker_.CheckOk(agent_.agent().Join(worker_.In(kJoinTimeout)), "join");
    CheckAllCallsAreDone();
    Phase();
    CallWithWhatCannotBeSent();
    CollectPending();
    agent_.JoinAndShutdown(kJoinTimeout);
    worker_.Check(callbacks_run_ == callbacks_, "callbacks",
                  std::to_string(callbacks_run_) + " of " +
                      std::to_string(callbacks_) + " callbacks ran");
  }

 private:
  struct Pending {
    Future call;
    CallSpec spec;
  };

  // Bursts of calls with idle time between them. The workers' shares differ.
  void Phase() {
    const absl::Duration idle = absl::Milliseconds(worker_.param("idle_ms"));
    const int64_t share =
        worker_.param("calls") / (int64_t{2} * worker_.world_size() * kBursts);
    for (int burst = 0; burst < kBursts; ++burst) {
      const int64_t calls =
          random_.Between("calls", share / 2, share + share / 2 + 1);
      for (int64_t i = 0; i < calls; ++i) CallSomebody();
      if (random_.OneIn("collects", 2)) CollectPending();
      // At least half of the time, so that a run is about as long as it should
      // be.
      worker_.Sleep((idle + DrawDuration(random_, "idle", idle)) /
                    (2 * kBursts));
    }
    if (random_.OneIn("collects in the end", 2)) CollectPending();
  }

  CallSpec DrawCall() {
    CallSpec spec = agent_.NewCall();
    spec.padding = random_.Between("padding", 0, 64);
    if (random_.OneIn("has tensors", 2)) {
      for (int64_t left = random_.Between("tensors", 1, 3); left > 0; --left) {
        spec.tensors.push_back(random_.Between("bytes", 0, 2048));
      }
      if (random_.OneIn("large", 40)) {
        spec.tensors.push_back(int64_t{65536}
                               << random_.Between("how large", 0, 2));
        worker_.Reached("large tensor");
      }
      if (random_.OneIn("a megabyte", 500)) {
        spec.tensors.push_back(1 << 20);
        worker_.Reached("tensor of a megabyte");
      }
    } else if (random_.OneIn("nested", 8)) {
      spec.via = {DrawRank("first hop"), DrawRank("second hop")};
      worker_.Reached("nested calls");
    }
    if (random_.OneIn("works", 4)) {
      spec.work = DrawDuration(random_, "work", absl::Milliseconds(20));
    }
    return spec;
  }

  int DrawRank(DrawName name) {
    return static_cast<int>(
        random_.Below(name, static_cast<uint64_t>(worker_.world_size())));
  }

  void CallSomebody() {
    const CallSpec spec = DrawCall();
    const int to = DrawRank("to");
    if (random_.OneIn("waits", 3)) {
      worker_.CheckOk(agent_.Call(to, spec), "call");
      return;
    }
    Future call = agent_.Send(to, spec);
    if (random_.OneIn("has a callback", 4)) {
      ++callbacks_;
      agent_.Then(call, [this](const Future::Result& result) {
        worker_.CheckOk(result.status(), "callback");
        ++callbacks_run_;
      });
    }
    pending_.push_back({std::move(call), spec});
  }

  void CollectPending() {
    for (const Pending& pending : pending_) {
      worker_.CheckOk(agent_.Await(pending.call, pending.spec), "call");
    }
    pending_.clear();
  }

  void CheckAllCallsAreDone() {
    for (const Pending& pending : pending_) {
      worker_.Check(pending.call.done(), "join",
                    "a call still runs when the join is over");
    }
  }

  // The call is refused at once and has no effect on other calls.
  void CallWithWhatCannotBeSent() {
    const Future call = agent_.agent().Send(worker_.NameOf(DrawRank("refuses")),
                                            MakeBrokenRequest());
    worker_.Check(absl::IsInvalidArgument(call.status()), "refused",
                  "a tensor beyond its storage: " + call.status().ToString());
  }

  Worker& worker_;
  EchoAgent& agent_;
  Draws random_;
  std::vector<Pending> pending_;
  int callbacks_ = 0;
  std::atomic<int> callbacks_run_ = 0;
};

void Lifecycle(Worker& worker) {
  auto agent =
      EchoAgent::Start(worker, worker.options(), worker.In(absl::Seconds(30)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Life(worker, **agent).Live();
}

// A worker is paused for a while. Nothing may fail because of it.
std::vector<std::string> PauseSomebody(Draws random,
                                       const ScenarioParams& /*params*/) {
  return {"pause w" + std::to_string(random.Below("worker", 4)) + " after " +
          std::to_string(random.Between("at", 100, 1000)) + "ms for " +
          std::to_string(random.Between("length", 50, 500)) + "ms"};
}

REPRISE_SCENARIO(
    lifecycle,
    {.description = "four workers start, make 200 calls, join and leave",
     .workers = 4,
     .params = {{"idle_ms", 40000}, {"calls", 180}},
     .smallest = {{"idle_ms", 0}, {"calls", 1}},
     .body = Lifecycle,
     .probes = {"join with calls running", "large tensor",
                "tensor of a megabyte", "nested calls"},
     .enough_seeds = 50,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Seconds(100),
     .process_params = {{"idle_ms", 500}},
     .process_faults = PauseSomebody});

}  // namespace
}  // namespace reprise::scenarios
