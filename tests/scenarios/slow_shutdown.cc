// A worker whose every step takes long shuts its agent down while its calls and
// their callbacks are under way. What a shutdown waits for must have happened
// when it returns, and not only have had a while for it. Rules, besides those
// of echo_agent.h:
//
//  ends   a call ends by its reply or, at the shutdown, by CANCELLED

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kPhase = absl::Seconds(2);
constexpr int kSlow = 1;  // the rank

void SlowShutdown(Worker& worker) {
  AgentOptions options = worker.options();
  options.rpc_timeout = absl::ZeroDuration();
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Draws random = worker.random("calls");
  const absl::Time end = worker.In(kPhase);
  std::vector<std::pair<Future, CallSpec>> calls;
  if (worker.rank() == kSlow) {
    while (worker.runtime().Now() < end) {
      worker.Sleep(DrawDuration(random, "between", kPhase / 10));
    }
    for (int64_t left = worker.param("calls"); left > 0; --left) {
      CallSpec spec = (*agent)->NewCall();
      spec.work = absl::Seconds(1);
      Future call = (*agent)->Send(0, spec);
      const int64_t steps = random.Between("steps", 1, 300);
      (*agent)->Then(call, [&worker, steps](const Future::Result&) {
        worker.Reached("a callback");
        // Nothing to wait for, so it takes no time where steps take none.
        for (int64_t i = 0; i < steps; ++i) worker.Sleep(absl::ZeroDuration());
      });
      calls.emplace_back(std::move(call), std::move(spec));
    }
    worker.Sleep(DrawDuration(random, "a moment", absl::Milliseconds(100)));
  } else {
    worker.Sleep(3 * kPhase);
  }
  worker.CheckOk((*agent)->Shutdown(absl::Minutes(1)), "shutdown");
  for (const auto& [call, spec] : calls) {
    const absl::Status status = (*agent)->Await(call, spec);
    worker.Check(status.ok() || absl::IsCancelled(status), "ends",
                 status.ToString());
  }
}

std::vector<std::string> DrawSlowness(Draws random,
                                      const ScenarioParams& /*params*/) {
  return {"slow w" + std::to_string(kSlow) + " " +
          std::to_string(random.Between("step", 50, 3000)) + "us after " +
          std::to_string(random.Between("at", 1000, 2000)) + "ms for 5s"};
}

REPRISE_SCENARIO(slow_shutdown,
                 {.description = "a slow worker shuts down with calls running",
                  .workers = 2,
                  .params = {{"calls", 16}},
                  .smallest = {{"calls", 1}},
                  .body = SlowShutdown,
                  .faults = DrawSlowness,
                  .probes = {"a callback"},
                  .fault_kinds = {"slow"},
                  .enough_seeds = 20,
                  .max_time = absl::Minutes(5),
                  .settle_time = absl::Minutes(3)});

}  // namespace
}  // namespace reprise::scenarios
