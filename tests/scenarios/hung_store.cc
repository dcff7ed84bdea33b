// The store hangs when the members of a static group call each other for the
// first time. They know each other's addresses, so nobody waits for it.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kPrompt = absl::Milliseconds(500);

void CallWhileTheStoreHangs(Worker& worker) {
  auto agent =
      EchoAgent::Start(worker, worker.options(), worker.In(absl::Seconds(30)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  worker.Sleep(absl::Seconds(2));
  Draws random = worker.random("calls");
  std::vector<std::pair<Future, CallSpec>> calls;
  const absl::Time start = worker.runtime().Now();
  for (int rank = 0; rank < worker.world_size(); ++rank) {
    CallSpec spec = (*agent)->NewCall();
    spec.padding = random.Between("padding", 0, 1000);
    Future call = (*agent)->Send(rank, spec);
    calls.emplace_back(std::move(call), std::move(spec));
  }
  for (const auto& [call, spec] : calls) {
    worker.CheckOk((*agent)->Await(call, spec), "call");
  }
  worker.Check(worker.runtime().Now() - start < kPrompt, "prompt",
               "first calls to peers whose addresses are known took " +
                   absl::FormatDuration(worker.runtime().Now() - start));
  (*agent)->JoinAndShutdown(absl::Minutes(2));
}

// Operations take effect, and their answers never come, or come late.
std::vector<std::string> HangTheStore(Draws random,
                                      const ScenarioParams& /*params*/) {
  const std::string length =
      " after 1s for " + std::to_string(random.Between("length", 2, 20)) + "s";
  return {random.OneIn("lost replies", 2)
              ? "store-lost-reply all" + length + " silent"
              : "store-delay " + std::to_string(random.Between("delay", 1, 5)) +
                    "s" + length};
}

REPRISE_SCENARIO(hung_store,
                 {.description = "first calls while the store hangs",
                  .workers = 3,
                  .body = CallWhileTheStoreHangs,
                  .faults = HangTheStore,
                  .fault_kinds = {"store-delay", "store-lost-reply"},
                  .enough_seeds = 50,
                  .max_time = absl::Minutes(5),
                  .settle_time = absl::Minutes(3)});

}  // namespace
}  // namespace reprise::scenarios
