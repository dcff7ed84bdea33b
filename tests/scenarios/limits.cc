// Requests beyond what w0 takes, beside others. Each fails alone and says why,
// and no connection breaks.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr size_t kMostPayload = 4096;
constexpr int kRounds = 4;

CallSpec DrawSmall(EchoAgent& agent, Draws random) {
  CallSpec spec = agent.NewCall();
  spec.padding = random.Between("padding", 0, 1000);
  spec.work = DrawDuration(random, "work", absl::Milliseconds(20));
  if (random.OneIn("has a tensor", 2)) {
    spec.tensors = {random.Between("bytes", 1, 100'000)};
  }
  return spec;
}

void CallBeyondLimits(Worker& worker) {
  AgentOptions options = worker.options();
  // It holds for what is sent, too.
  const bool is_limited = worker.rank() == 0;
  if (is_limited) options.max_payload_bytes = kMostPayload;
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Seconds(30)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Draws random = worker.random("calls");
  for (int round = 0; round < kRounds; ++round) {
    std::vector<std::pair<Future, CallSpec>> small;
    std::vector<Future> large;
    for (int i = 0; i < 3 * worker.world_size(); ++i) {
      const int to = i % worker.world_size();
      if (to == 0 && !is_limited && random.OneIn("is too large", 2)) {
        CallSpec spec = (*agent)->NewCall();
        spec.padding = static_cast<int64_t>(kMostPayload) +
                       random.Between("more", 1, 9999);
        large.push_back((*agent)->Send(to, spec));
      } else {
        CallSpec spec = DrawSmall(**agent, random.Part("small"));
        Future call = (*agent)->Send(to, spec);
        small.emplace_back(std::move(call), std::move(spec));
      }
    }
    for (const auto& [call, spec] : small) {
      worker.CheckOk((*agent)->Await(call, spec), "alone");
    }
    for (const Future& call : large) {
      worker.Reached("refused one that is too large");
      worker.Check(absl::IsResourceExhausted(call.status()), "refused",
                   call.status().ToString());
    }
  }
  worker.Check((*agent)->Metric("agent.reconnects") == 0, "alone",
               "a connection broke");
  (*agent)->JoinAndShutdown(absl::Minutes(1));
}

REPRISE_SCENARIO(
    limits,
    {.description = "requests that are too large, beside others that are not",
     .workers = 3,
     .body = CallBeyondLimits,
     .probes = {"refused one that is too large"},
     .enough_seeds = 20,
     .max_time = absl::Minutes(5)});

}  // namespace
}  // namespace reprise::scenarios
