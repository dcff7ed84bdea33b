// A worker stands still for seconds, for longer than its keepalive waits for a
// sign of life, while its calls run at a peer that is well. Rules, besides
// those of echo_agent.h:
//
//  blame  it does not take its own silence for that of its peer
//  call   a call fails only because the peer took this worker for dead, which
//         closes its connection (UNAVAILABLE)
//
// In `slow_steps` one of the two is slow instead, but never silent for so long:
//
//  call   no call fails

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
      worker.Check(
          worker.param("stands_still") != 0 && absl::IsUnavailable(status),
          "call", status.ToString());
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
  if (!random.OneIn("at a message", 2)) {
    return {"pause w1 after " + ms(random.Between("at", 100, 6000)) + " for " +
            ms(random.Between("length", 600, 5000))};
  }
  // It may be one that asks for a sign of life, and the answer is not there yet
  // when the worker goes on.
  const std::string at = " when w1 send.payload#" +
                         std::to_string(random.Between("message", 1, 40)) +
                         " for ";
  const int64_t length = random.Between("long enough", 1200, 5000);
  // The pause comes last: it stops the thread on which both strike.
  return {"hold w0>w1" + at + ms(length + random.Between("longer", 1, 300)),
          "pause w1" + at + ms(length)};
}

std::vector<std::string> DrawSlowness(Draws random,
                                      const ScenarioParams& /*params*/) {
  const auto ms = [](int64_t number) { return std::to_string(number) + "ms"; };
  return {"slow w" + std::to_string(random.Below("who is slow", 2)) + " " +
          std::to_string(random.Between("step", 100, 2000)) + "us after " +
          ms(random.Between("at", 100, 6000)) + " for " +
          ms(random.Between("length", 100, 2000))};
}

REPRISE_SCENARIO(own_pause,
                 {.description = "a worker that stood still blames nobody",
                  .workers = 2,
                  .params = {{"stands_still", 1}},
                  .param_ranges = {{"stands_still", {1, 1}}},
                  .body = OwnPause,
                  .faults = DrawPauses,
                  .probes = {"was taken for dead"},
                  .fault_kinds = {"pause", "hold"},
                  .enough_seeds = 50,
                  .max_time = absl::Minutes(5),
                  .settle_time = absl::Minutes(3)});

REPRISE_SCENARIO(
    slow_steps,
    {.description = "a worker or its peer is slow, and no call fails",
     .workers = 2,
     .params = {{"stands_still", 0}},
     .param_ranges = {{"stands_still", {0, 0}}},
     .body = OwnPause,
     .faults = DrawSlowness,
     .fault_kinds = {"slow"},
     .enough_seeds = 50,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(3)});

}  // namespace
}  // namespace reprise::scenarios
