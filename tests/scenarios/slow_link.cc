// Links so narrow that a message takes longer than every bound: the one for
// connecting, and those after which a silent client or server is dead. Nobody
// is dead here, so every call must succeed, however long its messages take, and
// however long an end only sends or only receives.

#include <string>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr int64_t kBytesPerSecond = 100'000;
constexpr absl::Duration kInterval = absl::Seconds(1);
constexpr absl::Duration kBound = absl::Seconds(3);
constexpr absl::Duration kConnect = absl::Seconds(2);
// After twice the bound a server takes a client for dead.
constexpr absl::Duration kLongest = absl::Seconds(6);
// Takes 7 to 12 s, each way.
constexpr int64_t kMinLarge = 700'000;
constexpr int64_t kMaxLarge = 1'200'000;

void CallWithLargeMessages(Worker& worker, EchoAgent& agent, Draws random,
                           int peer) {
  CallSpec spec = agent.NewCall();
  const int64_t size = random.Between("bytes", kMinLarge, kMaxLarge);
  if (random.OneIn("in a tensor", 2)) {
    spec.tensors = {size};
  } else {
    spec.padding = size;
  }
  const absl::Time start = worker.runtime().Now();
  worker.CheckOk(agent.Call(peer, spec, absl::ZeroDuration()), "lives");
  if (worker.runtime().Now() - start > kLongest) {
    worker.Reached("a long message");
  }
}

// The peer works at one call after the other, and we only receive replies.
void ReceiveOnly(Worker& worker, EchoAgent& agent, int peer) {
  std::vector<std::pair<Future, CallSpec>> calls;
  const absl::Time start = worker.runtime().Now();
  for (int i = 0; i < 16; ++i) {
    CallSpec spec = agent.NewCall();
    spec.work = kInterval / 2;
    calls.emplace_back(agent.Send(peer, spec, absl::ZeroDuration()), spec);
  }
  for (const auto& [call, spec] : calls) {
    worker.CheckOk(agent.Await(call, spec), "lives");
  }
  if (worker.runtime().Now() - start > kLongest) {
    worker.Reached("only replies");
  }
}

void SlowLink(Worker& worker) {
  AgentOptions options = worker.options();
  Draws random = worker.random("calls");
  // Without a keepalive, as with stock workers, only the bound for connecting
  // is left.
  const bool has_keepalive = !random.OneIn("no keepalive", 4);
  options.keepalive_interval = has_keepalive ? kInterval : absl::ZeroDuration();
  options.keepalive_bound = kBound;
  options.connect_timeout = kConnect;
  options.num_worker_threads = 1;
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  for (int64_t i = 0; i < worker.param("steps"); ++i) {
    const int peer =
        (worker.rank() + 1 + (random.OneIn("not the next", 2) ? 1 : 0)) % 3;
    if (random.OneIn("receives only", 3)) {
      ReceiveOnly(worker, **agent, peer);
    } else {
      CallWithLargeMessages(worker, **agent, random.Part("call"), peer);
    }
    // Sometimes nothing happens for longer than the bounds.
    worker.Sleep(DrawDuration(
        random, "pause",
        random.OneIn("idle", 3) ? 2 * kLongest : absl::Milliseconds(100)));
  }
  (*agent)->JoinAndShutdown(absl::Minutes(5));
}

REPRISE_SCENARIO(slow_link,
                 {.description = "messages that take longer than every bound",
                  .workers = 3,
                  .params = {{"steps", 3}},
                  .smallest = {{"steps", 1}},
                  .body = SlowLink,
                  .probes = {"a long message", "only replies"},
                  .enough_seeds = 20,
                  .bytes_per_second = kBytesPerSecond,
                  .max_time = absl::Minutes(10),
                  .settle_time = absl::Minutes(8),
                  .process_params = {{"steps", 1}}});

}  // namespace
}  // namespace reprise::scenarios
