// One worker is slow and all others flood it. When too much is pending, their
// calls are refused or have to wait. Calls between the others stay quick.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/runtime/mutex.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr size_t kMaxCalls = 8;
constexpr size_t kMaxBytes = 20000;
constexpr int kFlood = 40;
constexpr int kSlow = 0;  // the rank

void SlowPeer(Worker& worker) {
  AgentOptions options = worker.options();
  Draws random = worker.random("calls");
  const bool blocks = random.OneIn("blocks", 2);
  options.max_pending_calls_per_peer = kMaxCalls;
  options.max_pending_bytes_per_peer = kMaxBytes;
  options.when_full = blocks ? WhenFull::kBlock : WhenFull::kRefuse;
  // The slow worker's own load must not use up what the other workers need.
  options.num_worker_threads = 4;
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;

  std::vector<std::pair<Future, CallSpec>> flood;
  Draws flooding = worker.random("flood");
  const auto flooder = worker.runtime().StartThread("flood", [&] {
    for (int i = 0; i < kFlood; ++i) {
      CallSpec spec = (*agent)->NewCall();
      spec.work = absl::Milliseconds(flooding.Between("work", 5, 40));
      if (flooding.OneIn("has tensors", 2))
        spec.tensors = {flooding.Between("bytes", 1000, 15000)};
      const absl::Time start = worker.runtime().Now();
      const Future call = (*agent)->Send(kSlow, spec, absl::Minutes(5));
      const bool waited =
          worker.runtime().Now() - start > absl::Milliseconds(1);
      if (waited && blocks) worker.Reached("made to wait");
      const int64_t pending = (*agent)->Metric("agent.pending_calls");
      worker.Check(pending <= 2 * static_cast<int64_t>(kMaxCalls), "bound",
                   std::to_string(pending) + " calls are pending");
      flood.emplace_back(call, spec);
    }
  });
  // Meanwhile this worker calls a peer that is quick.
  const int quick = worker.rank() == 1 ? 2 : 1;
  for (int i = 0; i < 20; ++i) {
    CallSpec spec = (*agent)->NewCall();
    const absl::Time start = worker.runtime().Now();
    worker.CheckOk((*agent)->Call(quick, spec), "quick");
    worker.Check(worker.runtime().Now() - start <
                     absl::Milliseconds(worker.param("slack_ms")),
                 "quick", "a call to a quick peer took its time");
    worker.Sleep(DrawDuration(random, "pause", absl::Milliseconds(5)));
  }
  flooder->Join();
  for (const auto& [call, spec] : flood) {
    const absl::Status status = (*agent)->Await(call, spec);
    if (status.ok()) continue;
    worker.Reached("refused");
    worker.Check(absl::IsResourceExhausted(status) && !blocks, "full",
                 status.ToString());
  }
  (*agent)->JoinAndShutdown(absl::Minutes(5));
}

REPRISE_SCENARIO(slow_peer,
                 {.description = "a slow peer does not slow the others",
                  .workers = 3,
                  .params = {{"slack_ms", 20}},
                  .body = SlowPeer,
                  .probes = {"refused", "made to wait"},
                  .enough_seeds = 20,
                  .max_time = absl::Minutes(10),
                  .settle_time = absl::Minutes(5),
                  .process_params = {{"slack_ms", 3000}}});

}  // namespace
}  // namespace reprise::scenarios
