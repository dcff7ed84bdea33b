// The store dies while the members of a static group wait for the last one, and
// comes back without its last writes, or empty. Those that wait enter the group
// again, so that all start, and the group is as any other. Rules, besides those
// of echo_agent.h:
//
//  start  every worker starts
//  call   every worker can call every other

#include <memory>
#include <string>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr int kWorkers = 4;
// Nobody starts before the last worker comes, which is later than the store
// dies.
constexpr absl::Duration kLatest = absl::Milliseconds(100);

void StartThroughALoss(Worker& worker) {
  Draws random = worker.random("start");
  worker.Sleep(worker.rank() == kWorkers - 1
                   ? kLatest
                   : DrawDuration(random, "begin", kLatest / 2));
  AgentOptions options = worker.options();
  options.store_timeout = absl::Seconds(1);
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  for (int rank = 0; rank < worker.world_size(); ++rank) {
    const CallSpec spec = (*agent)->NewCall();
    worker.CheckOk((*agent)->Call(rank, spec), "call");
  }
  (*agent)->JoinAndShutdown(absl::Minutes(1));
}

std::vector<std::string> DrawLoss(Draws random,
                                  const ScenarioParams& /*params*/) {
  const std::string lost =
      random.OneIn("all", 2)
          ? "10000h"
          : std::to_string(random.Between("lost", 1, 60)) + "ms";
  return {"store-restart " + lost + " after " +
          std::to_string(random.Between("at", 1, 90)) + "ms for " +
          std::to_string(random.Between("down", 1, 3000)) + "ms"};
}

REPRISE_SCENARIO(store_lost_start,
                 {.description = "the store forgets a static group that forms",
                  .workers = kWorkers,
                  .body = StartThroughALoss,
                  .faults = DrawLoss,
                  .fault_kinds = {"store-restart"},
                  .enough_seeds = 50,
                  .max_time = absl::Minutes(10),
                  .settle_time = absl::Minutes(5)});

}  // namespace
}  // namespace reprise::scenarios
