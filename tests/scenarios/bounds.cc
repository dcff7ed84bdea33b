// Three workers send to one whose bounds on running requests and on unwritten
// replies are narrow, through callers that wait for room. Links that carry no
// replies for a while make the bounds bite. Rules, besides those of
// echo_agent.h:
//
//  bound   no more requests run than the bounds allow
//  served  each call that has time gets its reply: whoever waited for room, for
//          a turn or to be read is not forgotten when there is room again

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr int kServer = 0;   // the rank
constexpr int kSenders = 2;  // threads of each caller
constexpr int kCalls = 10;   // of each sender
constexpr size_t kManyBytes = 1 << 26;
constexpr absl::Duration kLongestCall = absl::Seconds(30);

size_t DrawSize(Draws& random, DrawName name, int64_t most) {
  return static_cast<size_t>(random.Between(name, 1, most));
}

ServerBounds DrawBounds(Draws random) {
  ServerBounds bounds;
  bounds.running_per_peer = {DrawSize(random, "running of a peer", 3),
                             random.OneIn("few running bytes", 3)
                                 ? DrawSize(random, "running bytes", 50'000)
                                 : kManyBytes};
  bounds.running_in_all = {DrawSize(random, "running in all", 4), kManyBytes};
  bounds.unwritten_per_peer = {DrawSize(random, "unwritten of a peer", 2),
                               random.OneIn("few unwritten bytes", 3)
                                   ? DrawSize(random, "unwritten bytes", 50'000)
                                   : kManyBytes};
  bounds.unwritten_in_all = {DrawSize(random, "unwritten in all", 5),
                             kManyBytes};
  return bounds;
}

void WatchBounds(Worker& worker, const EchoAgent& agent,
                 const ServerBounds& bounds) {
  // A peer may always have one running request.
  const auto peers = static_cast<size_t>(worker.world_size() - 1);
  const auto most =
      static_cast<int64_t>(std::min(peers * bounds.running_per_peer.calls,
                                    bounds.running_in_all.calls + peers - 1));
  for (int i = 0; i < 200; ++i) {
    const int64_t running = agent.Metric("agent.running_requests");
    worker.Check(running <= most, "bound",
                 std::to_string(running) + " requests run, and at most " +
                     std::to_string(most) + " may");
    if (agent.Metric("agent.worker_queue") > 0 &&
        agent.Metric("agent.num_idle_threads") > 0) {
      worker.Reached("a request waits though a thread is free");
    }
    if (agent.Metric("agent.unwritten_replies") > 1) {
      worker.Reached("replies wait");
    }
    worker.Sleep(absl::Milliseconds(3));
  }
}

// One of the threads of a caller.
void SendAll(Worker& worker, EchoAgent& agent, Draws random) {
  struct Sent {
    Future call;
    CallSpec spec;
    bool is_hasty;
  };
  std::vector<Sent> calls;
  for (int i = 0; i < kCalls; ++i) {
    CallSpec spec = agent.NewCall();
    spec.work = DrawDuration(random, "work", absl::Milliseconds(10));
    if (random.OneIn("has tensors", 2)) {
      // The large ones do not fit into what a connection holds.
      spec.tensors = {random.OneIn("large", 4)
                          ? random.Between("large bytes", 1'000'000, 3'000'000)
                          : random.Between("bytes", 1, 100'000)};
    }
    // Some have no time to wait for room.
    const bool is_hasty = random.OneIn("hasty", 6);
    Future call = agent.Send(
        kServer, spec,
        is_hasty ? absl::Milliseconds(random.Between("timeout", 1, 30))
                 : absl::Minutes(5));
    calls.push_back({std::move(call), std::move(spec), is_hasty});
    if (random.OneIn("pauses", 3)) {
      worker.Sleep(DrawDuration(random, "pause", absl::Milliseconds(20)));
    }
  }
  for (const auto& [call, spec, is_hasty] : calls) {
    const bool done = call.Wait(worker.In(kLongestCall));
    if (!worker.Check(done, "served", "a call is forgotten")) return;
    const absl::Status status = agent.Await(call, spec);
    const bool is_full = absl::IsResourceExhausted(status);
    const bool is_late = is_full || absl::IsDeadlineExceeded(status);
    // Hasty calls that have ended may still wait to be written.
    const bool is_stuck =
        is_full && status.message().find("is stuck") != absl::string_view::npos;
    worker.Check(status.ok() || is_stuck || (is_hasty && is_late), "served",
                 status.ToString());
  }
}

void Bounds(Worker& worker) {
  AgentOptions options = worker.options();
  Draws random = worker.random("bounds");
  options.num_worker_threads =
      static_cast<int>(random.Between("threads", 2, 6));
  options.server_bounds = DrawBounds(random.Part("bounds"));
  options.when_full = WhenFull::kBlock;
  options.max_pending_calls_per_peer = DrawSize(random, "pending", 6);
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  if (worker.rank() == kServer) {
    WatchBounds(worker, **agent, options.server_bounds);
  } else {
    std::vector<std::unique_ptr<Thread>> senders;
    for (int i = 0; i < kSenders; ++i) {
      const std::string name = "sender-" + std::to_string(i);
      senders.push_back(worker.runtime().StartThread(
          name, [&, name] { SendAll(worker, **agent, worker.random(name)); }));
    }
    for (const auto& sender : senders) sender->Join();
  }
  (*agent)->JoinAndShutdown(absl::Minutes(5));
}

std::vector<std::string> DrawHolds(Draws random,
                                   const ScenarioParams& /*params*/) {
  std::vector<std::string> faults;
  for (int64_t left = random.Between("holds", 0, 3); left > 0; --left) {
    faults.push_back(
        "hold w0>w" + std::to_string(random.Between("to", 1, 3)) +
        " when w0 request#" + std::to_string(random.Between("request", 1, 40)) +
        " for " + std::to_string(random.Between("length", 1, 1500)) + "ms");
  }
  return faults;
}

REPRISE_SCENARIO(bounds,
                 {.description = "nobody is forgotten who waits for a bound",
                  .workers = 4,
                  .body = Bounds,
                  .faults = DrawHolds,
                  .probes = {"a request waits though a thread is free",
                             "replies wait"},
                  .fault_kinds = {"hold"},
                  .enough_seeds = 30,
                  .max_time = absl::Minutes(10),
                  .settle_time = absl::Minutes(5)});

}  // namespace
}  // namespace reprise::scenarios
