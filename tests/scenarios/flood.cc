// A worker is flooded by one of its callers. What waits there stays within its
// bounds, the rest is refused, and a second caller is served in its turn.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr int kServer = 0;  // the rank
constexpr int kFlooder = 1;
constexpr int kThreads = 2;
constexpr int64_t kMaxCalls = 16;
constexpr int64_t kMaxBytes = 20000;
constexpr int64_t kLargestTensor = 3000;
constexpr int kFlood = 120;
constexpr int kFewCalls = 10;
constexpr absl::Duration kLongestWork = absl::Milliseconds(10);

void CheckBounds(Worker& worker, const EchoAgent& agent) {
  const int64_t calls = agent.Metric("agent.worker_queue");
  // Both callers have a queue.
  worker.Check(calls <= 2 * kMaxCalls, "bound",
               std::to_string(calls) + " requests wait");
  const int64_t bytes = agent.Metric("agent.worker_queue_bytes");
  // One request may exceed the bound, and a request is more than its tensor.
  worker.Check(bytes <= 2 * (kMaxBytes + 2 * kLargestTensor), "bound",
               std::to_string(bytes) + " bytes of requests wait");
  if (agent.Metric("agent.refused_requests_for_calls") > 0) {
    worker.Reached("too many calls");
  }
  if (agent.Metric("agent.refused_requests_for_bytes") > 0) {
    worker.Reached("too many bytes");
  }
}

void SendFlood(Worker& worker, EchoAgent& agent, Draws random) {
  // Either the one bound or the other is reached first.
  const bool has_tensors = random.OneIn("has tensors", 2);
  std::vector<std::pair<Future, CallSpec>> calls;
  for (int i = 0; i < kFlood; ++i) {
    CallSpec spec = agent.NewCall();
    spec.work = DrawDuration(random, "work", kLongestWork);
    if (has_tensors)
      spec.tensors = {random.Between("bytes", 2000, kLargestTensor)};
    calls.emplace_back(agent.Send(kServer, spec, absl::Minutes(5)), spec);
    if (random.OneIn("pauses", 4)) worker.Sleep(absl::Milliseconds(1));
  }
  for (const auto& [call, spec] : calls) {
    const absl::Status status = agent.Await(call, spec);
    worker.Check(status.ok() || (absl::IsResourceExhausted(status) &&
                                 status.message().find("Refused by Node ") !=
                                     std::string::npos),
                 "full", status.ToString());
  }
}

void SendFew(Worker& worker, EchoAgent& agent, Draws random) {
  for (int i = 0; i < kFewCalls; ++i) {
    const CallSpec spec = agent.NewCall();
    const absl::Time start = worker.runtime().Now();
    worker.CheckOk(agent.Call(kServer, spec, absl::Minutes(5)), "in turn");
    const absl::Duration took = worker.runtime().Now() - start;
    // What runs when it comes, and one request of the flood before it.
    worker.Check(
        took <= 2 * kLongestWork + absl::Milliseconds(worker.param("slack_ms")),
        "in turn",
        "a call waited " + absl::FormatDuration(took) +
            " for those of another caller");
    worker.Sleep(DrawDuration(random, "pause", absl::Milliseconds(10)));
  }
}

void Flood(Worker& worker) {
  AgentOptions options = worker.options();
  options.num_worker_threads = kThreads;
  options.server_bounds.queued_per_peer = {kMaxCalls, kMaxBytes};
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Draws random = worker.random("calls");
  if (worker.rank() == kServer) {
    for (int i = 0; i < 100; ++i) {
      CheckBounds(worker, **agent);
      worker.Sleep(absl::Milliseconds(3));
    }
  } else if (worker.rank() == kFlooder) {
    SendFlood(worker, **agent, random.Part("flood"));
  } else {
    SendFew(worker, **agent, random.Part("few"));
  }
  (*agent)->JoinAndShutdown(absl::Minutes(5));
}

REPRISE_SCENARIO(flood,
                 {.description = "a server bounds what a flood makes it hold",
                  .workers = 3,
                  .params = {{"slack_ms", 5}},
                  .body = Flood,
                  .probes = {"too many calls", "too many bytes"},
                  .enough_seeds = 20,
                  .max_time = absl::Minutes(10),
                  .settle_time = absl::Minutes(5),
                  .process_params = {{"slack_ms", 3000}}});

}  // namespace
}  // namespace reprise::scenarios
