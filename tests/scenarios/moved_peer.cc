// Listeners die, and workers listen at other addresses before anybody has
// called them. So the first calls begin with a connection to an address where
// nobody listens any more, which is replaced, and some of these calls are
// cancelled meanwhile. Rules, besides those of echo_agent.h:
//
//  moved      a call that is not cancelled succeeds
//  cancelled  one that is cancelled says so, or was answered before
//
// That no cancelled call is sent over the new connection is the trace's rule
// `given-up`.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr int kCalls = 6;  // to each peer
constexpr absl::Duration kUntilMoved = absl::Seconds(1);

// The first calls to a peer.
void CallFirst(Worker& worker, EchoAgent& agent, int to, Draws random) {
  struct Sent {
    Future call;
    CallSpec spec;
    bool is_cancelled = false;
  };
  std::vector<Sent> all;
  for (int i = 0; i < kCalls; ++i) {
    CallSpec spec = agent.NewCall();
    if (random.OneIn("has a tensor", 3)) {
      spec.tensors = {random.Between("bytes", 1, 1000)};
    }
    Future call = agent.Send(to, spec, absl::Minutes(1));
    all.push_back({std::move(call), std::move(spec)});
  }
  // The refusal comes about a round trip after the first call.
  worker.Sleep(
      DrawDuration(random, "before the cancels", absl::Microseconds(400)));
  for (Sent& sent : all) {
    sent.is_cancelled = !random.OneIn("goes on", 3);
    if (sent.is_cancelled) sent.call.Cancel();
  }
  for (const Sent& sent : all) {
    const absl::Status status = agent.Await(sent.call, sent.spec);
    if (!sent.is_cancelled) {
      worker.CheckOk(status, "moved");
    } else {
      worker.Check(status.ok() || absl::IsCancelled(status), "cancelled",
                   status.ToString());
      if (absl::IsCancelled(status)) worker.Reached("cancelled");
    }
  }
}

void MovedPeer(Worker& worker) {
  auto agent =
      EchoAgent::Start(worker, worker.options(), worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  worker.Sleep(kUntilMoved);
  if ((*agent)->Metric("agent.listener_reopens") > 0) worker.Reached("moved");
  std::vector<std::unique_ptr<Thread>> callers;
  for (int to = 0; to < worker.world_size(); ++to) {
    const std::string name = "caller-" + std::to_string(to);
    callers.push_back(worker.runtime().StartThread(name, [&, to, name] {
      CallFirst(worker, **agent, to, worker.random(name));
    }));
  }
  for (const auto& caller : callers) caller->Join();
  (*agent)->JoinAndShutdown(absl::Minutes(1));
}

std::vector<std::string> DrawFaults(Draws random,
                                    const ScenarioParams& /*params*/) {
  std::vector<std::string> faults;
  for (int rank = 0; rank < 4; ++rank) {
    if (random.OneIn("stays", 4)) continue;
    faults.push_back("drop-connect w" + std::to_string(rank) + " after " +
                     std::to_string(random.Between("at", 300, 800)) + "ms");
  }
  return faults;
}

REPRISE_SCENARIO(moved_peer,
                 {.description = "first calls to workers that have moved",
                  .workers = 4,
                  .body = MovedPeer,
                  .faults = DrawFaults,
                  .probes = {"moved", "cancelled"},
                  .fault_kinds = {"drop-connect"},
                  .enough_seeds = 20,
                  .max_time = absl::Minutes(5),
                  .settle_time = absl::Minutes(2)});

}  // namespace
}  // namespace reprise::scenarios
