// The store of a dynamic group dies and comes back without its last writes, or
// empty. A member that is lost with them is told that it was evicted, and joins
// again. In `store_restart_ids` it then takes whichever id is free, so that
// another member may have the id, and the incarnation, that it had before the
// store counted from 1 again. Rules, besides those of echo_agent.h:
//
//  join   a worker joins within the patience that it has
//  agree  some time after the store is back, all members see each other
//  reach  and each can call each other

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr int kWorkers = 3;
constexpr absl::Duration kActive = absl::Seconds(20);
constexpr absl::Duration kPatience = absl::Seconds(15);

class Member {
 public:
  Member(Worker& worker, bool any_id)
      : worker_(worker), any_id_(any_id), random_(worker.random("calls")) {}

  void Live() {
    const absl::Time end = worker_.In(kActive);
    while (worker_.runtime().Now() < end) {
      if (agent_ == nullptr && !Join()) return;
      CallSomebody();
      worker_.Sleep(DrawDuration(random_, "pause", absl::Seconds(1)));
      if (!evicted_->load() || StaysForNow()) continue;
      worker_.Reached("was told that it is lost");
      worker_.CheckOk(agent_->Shutdown(absl::Seconds(5)), "shutdown");
      agent_ = nullptr;
    }
    CheckAllAreThere();
    // The others look for this member for a while.
    worker_.Sleep(absl::Seconds(5));
    worker_.CheckOk(agent_->Shutdown(absl::Seconds(5)), "shutdown");
  }

 private:
  bool Join() {
    // The callback of an agent that is gone may still come.
    evicted_ = std::make_shared<std::atomic<bool>>(false);
    AgentOptions options = worker_.options();
    options.world_size = kDynamicGroup;
    if (any_id_) options.id = kAnyId;
    options.store_timeout = absl::Seconds(1);
    options.token_lease = absl::Seconds(2);
    options.membership_refresh = absl::Milliseconds(500);
    options.on_evicted = [evicted = evicted_](const absl::Status&) {
      evicted->store(true);
    };
    auto agent =
        EchoAgent::Start(worker_, options, worker_.In(kPatience), ++starts_);
    if (!worker_.CheckOk(agent.status(), "join")) return false;
    agent_ = *std::move(agent);
    return true;
  }

  // Who has lost its place may go on calling, and be called, for a while.
  bool StaysForNow() { return any_id_ && !random_.OneIn("go", 3); }

  CallSpec NewCallTo(int rank) {
    CallSpec spec = agent_->NewCall();
    if (any_id_) spec.to = rank;
    return spec;
  }

  void CallSomebody() {
    const auto rank =
        static_cast<int>(random_.Below("peer", uint64_t{kWorkers}));
    const CallSpec spec = NewCallTo(rank);
    const absl::Status status =
        agent_->Await(agent_->Send(worker_.NameOf(rank), spec), spec);
    worker_.Check(
        status.ok() || absl::IsUnavailable(status) || absl::IsNotFound(status),
        "call", status.ToString());
  }

  void CheckAllAreThere() {
    if (agent_ == nullptr && !Join()) return;
    const size_t seen = agent_->agent().GetWorkerInfos().size();
    worker_.Check(seen == size_t{kWorkers}, "agree",
                  "it sees " + std::to_string(seen) + " members");
    for (int rank = 0; rank < kWorkers; ++rank) {
      const CallSpec spec = NewCallTo(rank);
      worker_.CheckOk(
          agent_->Await(agent_->Send(worker_.NameOf(rank), spec), spec),
          "reach");
    }
  }

  Worker& worker_;
  const bool any_id_;
  Draws random_;
  std::unique_ptr<EchoAgent> agent_;
  std::shared_ptr<std::atomic<bool>> evicted_;
  int starts_ = 0;
};

void StoreRestart(Worker& worker) { Member(worker, false).Live(); }
void StoreRestartIds(Worker& worker) { Member(worker, true).Live(); }

std::vector<std::string> DrawRestarts(Draws random,
                                      const ScenarioParams& /*params*/) {
  std::vector<std::string> lines;
  for (int64_t left = random.Between("restarts", 1, 2); left > 0; --left) {
    const std::string lost =
        random.OneIn("all", 4)
            ? "10000h"
            : std::to_string(random.Between("lost", 1, 3000)) + "ms";
    lines.push_back("store-restart " + lost + " after " +
                    std::to_string(random.Between("at", 1, 4000)) + "ms for " +
                    std::to_string(random.Between("down", 1, 2000)) + "ms");
  }
  return lines;
}

REPRISE_SCENARIO(store_restart,
                 {.description = "the store forgets its last writes, or all",
                  .workers = kWorkers,
                  .body = StoreRestart,
                  .faults = DrawRestarts,
                  .probes = {"was told that it is lost"},
                  .fault_kinds = {"store-restart"},
                  .enough_seeds = 50,
                  .max_time = absl::Minutes(5),
                  .settle_time = absl::Minutes(3)});

REPRISE_SCENARIO(store_restart_ids,
                 {.description = "so it does, and members come back with "
                                 "whichever id is free",
                  .workers = kWorkers,
                  .body = StoreRestartIds,
                  .faults = DrawRestarts,
                  .probes = {"was told that it is lost"},
                  .fault_kinds = {"store-restart"},
                  .enough_seeds = 50,
                  .max_time = absl::Minutes(5),
                  .settle_time = absl::Minutes(3)});

}  // namespace
}  // namespace reprise::scenarios
