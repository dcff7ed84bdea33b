// Links that carry nothing, for a while or for ever, with calls on them that
// have long timeouts or none. A call fails with UNAVAILABLE within the
// keepalive bound, and when the link carries frames again calls succeed again.
// That also holds after a worker has stood still.

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kInterval = absl::Seconds(1);
constexpr absl::Duration kBound = absl::Seconds(3);
constexpr absl::Duration kConnect = absl::Seconds(3);
constexpr absl::Duration kPhase = absl::Seconds(20);

void HalfOpen(Worker& worker) {
  AgentOptions options = worker.options();
  options.keepalive_interval = kInterval;
  options.keepalive_bound = kBound;
  options.connect_timeout = kConnect;
  // What a large message took must not excuse the silence after it, so small
  // calls share its connection.
  options.bulk_bytes = std::numeric_limits<size_t>::max();
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Draws random = worker.random("calls");
  // A tenth of the interval is the keepalive's own slack.
  const absl::Duration longest = std::max(kBound + kInterval / 10, kConnect) +
                                 absl::Milliseconds(worker.param("slack_ms"));
  const absl::Time end = worker.In(kPhase);
  std::vector<bool> failed(static_cast<size_t>(worker.world_size()));
  while (worker.runtime().Now() < end) {
    const auto rank = static_cast<int>(
        random.Below("peer", static_cast<uint64_t>(worker.world_size())));
    CallSpec spec = (*agent)->NewCall();
    if (random.OneIn("large", 60)) {
      // What a large message took is no excuse for a silence after it.
      spec.tensors = {random.Between("large bytes", 1'000'000, 3'000'000)};
    } else if (random.OneIn("has tensors", 3)) {
      spec.tensors = {random.Between("bytes", 1, 2000)};
    }
    const absl::Time start = worker.runtime().Now();
    const Future call =
        (*agent)->Send(rank, spec,
                       random.OneIn("no timeout", 2) ? absl::ZeroDuration()
                                                     : absl::Minutes(10));
    // Otherwise the end of the phase, where the connection is idle.
    if (!call.Wait(start + longest)) {
      worker.Check(false, "bound",
                   "a call to " + worker.NameOf(rank) + " is open after " +
                       absl::FormatDuration(longest));
      break;
    }
    const absl::Status status = (*agent)->Await(call, spec);
    const auto peer = static_cast<size_t>(rank);
    if (status.ok()) {
      if (failed[peer]) worker.Reached("healed");
    } else {
      failed[peer] = true;
      worker.Check(absl::IsUnavailable(status), "cause", status.ToString());
      if (status.message().find("no sign of life from") != std::string::npos) {
        worker.Reached("no sign of life");
      }
    }
    // Sometimes longer than the interval, so that idle pipes are asked.
    worker.Sleep(DrawDuration(
        random, "pause",
        random.OneIn("idle", 8) ? 3 * kInterval : absl::Milliseconds(50)));
  }
  const absl::Status status = (*agent)->Shutdown(absl::Seconds(10));
  worker.CheckOk(status, "shutdown");
}

std::vector<std::string> DrawFaults(Draws random, const ScenarioParams&) {
  if (random.OneIn("no fault", 6)) return {};
  const int64_t first = static_cast<int64_t>(random.Below("first", 3));
  const int64_t second = (first + random.Between("second", 1, 2)) % 3;
  int64_t at = random.Between("at", 500, 8000);
  std::vector<std::string> faults;
  if (random.OneIn("stood still before", 4)) {
    // What it has missed meanwhile is over when the next fault comes.
    const int64_t since = random.Between("stands still since", 100, 3000);
    const int64_t length = random.Between("stands still for", 100, 2500);
    faults.push_back("pause w" +
                     std::to_string(random.Below("who stands still", 3)) +
                     " after " + std::to_string(since) + "ms for " +
                     std::to_string(length) + "ms");
    at += since + length;
  }
  const std::string when = " after " + std::to_string(at) + "ms";
  if (random.OneIn("a machine", 4)) {
    faults.push_back("power w" + std::to_string(first) + when);
    return faults;
  }
  std::string line = " w" + std::to_string(first) +
                     (random.OneIn("one way", 3) ? ">w" : "-w") +
                     std::to_string(second);
  // Sometimes one worker is cut off from all others.
  if (random.OneIn("both others", 5)) {
    line = " w" + std::to_string(first) + "-w" + std::to_string(second) + ",w" +
           std::to_string(3 - first - second);
  }
  if (random.OneIn("for ever", 3)) {
    faults.push_back("partition" + line + when + " for ever");
  } else {
    faults.push_back("hold" + line + when + " for " +
                     std::to_string(random.Between("length", 100, 8000)) +
                     "ms");
  }
  return faults;
}

REPRISE_SCENARIO(half_open,
                 {.description = "peers that say nothing any more",
                  .workers = 3,
                  .params = {{"slack_ms", 100}},
                  .body = HalfOpen,
                  .faults = DrawFaults,
                  .probes = {"healed", "no sign of life"},
                  .fault_kinds = {"hold", "partition", "power", "pause"},
                  .max_time = absl::Minutes(5),
                  .settle_time = absl::Minutes(3),
                  .process_params = {{"slack_ms", 2000}}});

}  // namespace
}  // namespace reprise::scenarios
