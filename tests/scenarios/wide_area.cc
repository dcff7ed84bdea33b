// Workers at two sites, with a network between them that is far, narrow, lossy
// or lopsided, as the seed draws it: sites, hosts, latencies, jitter, bandwidth
// and loss. Sometimes the links get slower for a while. Nobody dies and nothing
// breaks, so, besides the rules of echo_agent.h:
//
//  arrives   a call that has time succeeds, however far its peer is
//  on-time   a call with too little time ends when its time is over, and not
//            when its peer's answer comes
//
// In `far_sites` they are half a second apart.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr int kWorkers = 4;
// Beyond what links between sites take, and what their neighbours take.
constexpr absl::Duration kLongWay = absl::Milliseconds(150);
constexpr absl::Duration kLongestTimeout = absl::Milliseconds(400);

void CallAround(Worker& worker, EchoAgent& agent, Draws random) {
  CallSpec spec = agent.NewCall();
  const auto peer = static_cast<int>(random.Below("peer", kWorkers));
  if (random.OneIn("is large", 4)) {
    spec.padding = random.Between("padding", 1, 200'000);
  }
  if (random.OneIn("has tensors", 3)) {
    spec.tensors = {random.Between("bytes", 0, 200'000)};
  }
  const absl::Time start = worker.runtime().Now();
  if (!random.OneIn("has little time", 3)) {
    worker.CheckOk(agent.Call(peer, spec, absl::ZeroDuration()), "arrives");
    if (worker.runtime().Now() - start > kLongWay) worker.Reached("a long way");
    return;
  }
  const absl::Duration timeout =
      absl::Milliseconds(1) + DrawDuration(random, "timeout", kLongestTimeout);
  const absl::Status status = agent.Call(peer, spec, timeout);
  const absl::Duration late = worker.runtime().Now() - start - timeout;
  worker.Check(late <= absl::Milliseconds(worker.param("slack_ms")), "on-time",
               "a call ended " + absl::FormatDuration(late) +
                   " after its time: " + status.ToString());
  if (status.ok()) return;
  worker.Reached("too far");
  worker.Check(absl::IsDeadlineExceeded(status) &&
                   late >= -absl::Milliseconds(worker.param("slack_ms")),
               "arrives", status.ToString());
}

void WideArea(Worker& worker) {
  AgentOptions options = worker.options();
  options.rpc_timeout = absl::ZeroDuration();
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Draws random = worker.random("calls");
  for (int64_t left = worker.param("calls"); left > 0; --left) {
    CallAround(worker, **agent, random.Part("call"));
    if (random.OneIn("pauses", 3)) {
      worker.Sleep(DrawDuration(random, "pause", absl::Milliseconds(300)));
    }
  }
  (*agent)->JoinAndShutdown(absl::Minutes(5));
}

std::string Ms(int64_t ms) { return std::to_string(ms) + "ms"; }

// Two pairs, or one worker that is alone.
std::array<std::string_view, 2> DrawSites(Draws random) {
  constexpr std::array<std::array<std::string_view, 2>, 3> kSites = {
      {{"w0,w1", "w2,w3"}, {"w0", "w1,w2,w3"}, {"w0,w1,w2", "w3"}}};
  return kSites[random.Below("sites", kSites.size())];
}

std::string DrawQualities(Draws random) {
  std::string line = " latency " + Ms(random.Between("latency", 1, 120));
  if (random.OneIn("jitters", 2)) {
    line += " jitter " + Ms(random.Between("jitter", 1, 50));
  }
  if (random.OneIn("is narrow", 2)) {
    line += " bandwidth " +
            std::to_string(random.Between("bandwidth", 200'000, 20'000'000));
  }
  if (random.OneIn("loses", 2)) {
    line += " loss " + std::to_string(random.Between("loss", 10, 500));
  }
  return line;
}

std::vector<std::string> DrawTopology(Draws random,
                                      const ScenarioParams& /*params*/) {
  // All links are alike.
  if (random.OneIn("one site", 8)) return {};
  const auto [here, there] = DrawSites(random.Part("sites"));
  const auto between = [here = here, there = there](std::string_view way) {
    return "link " + std::string(here) + std::string(way) + std::string(there);
  };
  std::vector<std::string> lines = {between("-") +
                                    DrawQualities(random.Part("between"))};
  // One direction is unlike the other.
  if (random.OneIn("is lopsided", 3)) {
    lines.push_back(between(">") + DrawQualities(random.Part("one way")));
  }
  if (random.OneIn("share a host", 3)) lines.emplace_back("host w1,w2");
  return lines;
}

std::vector<std::string> DrawDelays(Draws random,
                                    const ScenarioParams& /*params*/) {
  if (random.OneIn("no delays", 2)) return {};
  const std::string worker =
      "w" + std::to_string(random.Below("worker", kWorkers));
  std::string others;
  for (int rank = 0; rank < kWorkers; ++rank) {
    const std::string other = "w" + std::to_string(rank);
    if (other != worker) others += (others.empty() ? "" : ",") + other;
  }
  const std::string link = random.OneIn("to it only", 3)
                               ? others + ">" + worker
                               : worker + "-" + others;
  return {"delay " + link + " " + Ms(random.Between("by", 1, 1000)) +
          " after " + Ms(random.Between("at", 1, 2000)) + " for " +
          Ms(random.Between("length", 1, 3000))};
}

REPRISE_SCENARIO(
    wide_area, {.description = "sites that are far, narrow, lossy or lopsided",
                .workers = kWorkers,
                .params = {{"calls", 12}, {"slack_ms", 5}},
                .smallest = {{"calls", 1}},
                .body = WideArea,
                .faults = DrawDelays,
                .probes = {"a long way", "too far"},
                .fault_kinds = {"delay"},
                .enough_seeds = 50,
                .draw_topology = DrawTopology,
                .max_time = absl::Minutes(10),
                .settle_time = absl::Minutes(8),
                .process_params = {{"slack_ms", 2000}}});

// All start, however long an answer takes.
REPRISE_SCENARIO(far_sites, {.description = "sites that are half a second away",
                             .workers = kWorkers,
                             .params = {{"calls", 4}, {"slack_ms", 5}},
                             .smallest = {{"calls", 1}},
                             .body = WideArea,
                             .enough_seeds = 50,
                             .topology = {"link w0,w1-w2,w3 latency 500ms"},
                             .max_time = absl::Minutes(10),
                             .settle_time = absl::Minutes(8),
                             .process_params = {{"slack_ms", 2000}}});

}  // namespace
}  // namespace reprise::scenarios
