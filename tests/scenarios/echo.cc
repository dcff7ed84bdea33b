// Every worker calls every other one, and itself.

#include <memory>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr int kCalls = 3;  // of each worker to each
constexpr int64_t kLongestTensor = 4096;

CallSpec DrawCall(EchoAgent& agent, Draws random) {
  CallSpec spec = agent.NewCall();
  spec.padding = random.Between("padding", 0, 100);
  for (int64_t left = random.Between("tensors", 0, 3); left > 0; --left) {
    spec.tensors.push_back(random.Between("bytes", 0, kLongestTensor));
  }
  return spec;
}

void Echo(Worker& worker) {
  auto agent =
      EchoAgent::Start(worker, worker.options(), worker.In(absl::Seconds(10)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Draws random = worker.random("calls");
  std::vector<std::pair<Future, CallSpec>> calls;
  for (int i = 0; i < kCalls; ++i) {
    for (int rank = 0; rank < worker.world_size(); ++rank) {
      const CallSpec spec = DrawCall(**agent, random.Part("call"));
      if (random.OneIn("waits", 2)) {
        worker.CheckOk((*agent)->Call(rank, spec), "call");
      } else {
        calls.emplace_back((*agent)->Send(rank, spec), spec);
      }
    }
  }
  for (const auto& [call, spec] : calls) {
    worker.CheckOk((*agent)->Await(call, spec), "call");
  }
  (*agent)->JoinAndShutdown(absl::Seconds(10));
}

REPRISE_SCENARIO(echo, {.description = "every worker calls every other one",
                        .workers = 3,
                        .worker_range = ParamRange{1, 100},
                        .body = Echo,
                        .enough_seeds = 10,
                        .max_time = absl::Seconds(30),
                        .settle_time = absl::Seconds(5)});

}  // namespace
}  // namespace reprise::scenarios
