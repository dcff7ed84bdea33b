// A worker stands still for seconds, for longer than its keepalive waits for a
// sign of life, or is slow, while its calls run at a peer that is well. Rules,
// besides those of echo_agent.h:
//
//  blame  it does not take its own silence for that of its peer
//  call   a call fails only because the peer took this worker for dead

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kPhase = absl::Seconds(8);

void OwnPause(Worker& worker) {
  AgentOptions options = worker.options();
  options.keepalive_interval = absl::Milliseconds(300);
  options.keepalive_bound = absl::Seconds(1);
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Draws random = worker.random("calls");
  const absl::Time end = worker.In(kPhase);
  while (worker.rank() == 1 && worker.runtime().Now() < end) {
    std::vector<std::pair<Future, CallSpec>> calls;
    for (int64_t left = random.Between("calls", 1, 3); left > 0; --left) {
      CallSpec spec = (*agent)->NewCall();
      spec.work = DrawDuration(random, "work", absl::Seconds(1));
      calls.emplace_back((*agent)->Send(0, spec, absl::Minutes(1)), spec);
    }
    for (const auto& [call, spec] : calls) {
      const absl::Status status = (*agent)->Await(call, spec);
      if (status.ok()) continue;
      worker.Reached("was taken for dead");
      worker.Check(absl::IsUnavailable(status), "call", status.ToString());
      worker.Check(
          status.message().find("no sign of life") == absl::string_view::npos,
          "blame", status.ToString());
    }
    worker.Sleep(DrawDuration(random, "between", absl::Milliseconds(500)));
  }
  (*agent)->JoinAndShutdown(absl::Minutes(1));
}

std::vector<std::string> DrawPauses(Draws random,
                                    const ScenarioParams& /*params*/) {
  const auto ms = [](int64_t number) { return std::to_string(number) + "ms"; };
  const std::string at = " after " + ms(random.Between("at", 100, 6000));
  if (random.OneIn("slow", 4)) {
    return {"slow w" + std::to_string(random.Below("who is slow", 2)) + " " +
            ms(random.Between("step", 1, 8)) + at + " for " +
            ms(random.Between("slow for", 100, 2000))};
  }
  return {"pause w1" + at + " for " + ms(random.Between("length", 600, 5000))};
}

REPRISE_SCENARIO(own_pause,
                 {.description = "a worker that stood still blames nobody",
                  .workers = 2,
                  .body = OwnPause,
                  .faults = DrawPauses,
                  .probes = {"was taken for dead"},
                  .fault_kinds = {"pause", "slow"},
                  .enough_seeds = 50,
                  .max_time = absl::Minutes(5),
                  .settle_time = absl::Minutes(3)});

}  // namespace
}  // namespace reprise::scenarios
