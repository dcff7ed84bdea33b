// Workers whose clocks do not agree: they are ahead or behind by hours, run
// fast or slow, or are set while the workers run. Some workers are slow. Rules,
// besides those of echo_agent.h:
//
//  call   a call that has time enough succeeds, and a call whose handler takes
//         too long times out, by the caller's clock
//  join   all join in the end
//
// `drifting_leases` does the same to the lock of a dynamic group, whose lease a
// holder and those that wait for it measure by clocks of their own:
//
//  join   each worker joins whenever it wants to
//  leave  and leaves

#include <memory>
#include <string>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(1);
constexpr absl::Duration kEnough = absl::Seconds(20);
constexpr absl::Duration kLease = absl::Seconds(1);
constexpr int kWorkers = 3;

void CallAround(Worker& worker, EchoAgent& agent, Draws random) {
  for (int64_t left = worker.param("calls"); left > 0; --left) {
    CallSpec spec = agent.NewCall();
    const auto to = static_cast<int>(
        random.Below("peer", static_cast<uint64_t>(worker.world_size())));
    if (random.OneIn("takes too long", 4)) {
      const absl::Duration timeout =
          absl::Milliseconds(random.Between("timeout", 1, 300));
      // Also by a handler's clock that is fast by 300 ms in a second this is
      // longer than the timeout by a caller's clock that is slow by as much;
      // and by 770 ms, for callers that are slow.
      spec.work = 2 * timeout + absl::Seconds(1);
      const absl::Status status = agent.Call(to, spec, timeout);
      if (worker.Check(absl::IsDeadlineExceeded(status), "call",
                       status.ToString())) {
        worker.Reached("timed out");
      }
    } else {
      spec.work = DrawDuration(random, "work", absl::Milliseconds(50));
      worker.CheckOk(agent.Call(to, spec, kEnough), "call");
    }
    worker.Sleep(DrawDuration(random, "pause", absl::Milliseconds(100)));
  }
}

void Clocks(Worker& worker) {
  auto agent = EchoAgent::Start(worker, worker.options(), worker.In(kPatience));
  if (!worker.CheckOk(agent.status(), "start")) return;
  CallAround(worker, **agent, worker.random("calls"));
  (*agent)->JoinAndShutdown(kPatience);
}

void DriftingLeases(Worker& worker) {
  AgentOptions options = worker.options();
  options.world_size = kDynamicGroup;
  options.token_lease = kLease;
  options.store_timeout = absl::Milliseconds(500);
  Draws random = worker.random("lives");
  for (int life = 0; life < 4; ++life) {
    worker.Sleep(DrawDuration(random, "out", absl::Milliseconds(200)));
    auto agent = EchoAgent::Start(worker, options, worker.In(kPatience), life);
    if (!worker.CheckOk(agent.status(), "join")) return;
    worker.Sleep(DrawDuration(random, "life", absl::Milliseconds(300)));
    worker.CheckOk((*agent)->agent().Leave(worker.In(kPatience)), "leave");
    worker.CheckOk((*agent)->Shutdown(absl::Seconds(10)), "shutdown");
  }
  worker.Reached("joined and left");
}

std::string Ms(int64_t ms) { return std::to_string(ms) + "ms"; }

// In most runs, some clocks are wrong from the beginning.
std::vector<std::string> DrawClocks(Draws random) {
  std::vector<std::string> lines;
  for (int rank = 0; rank < kWorkers; ++rank) {
    const std::string worker = " w" + std::to_string(rank) + " ";
    if (random.OneIn("skewed", 2)) {
      lines.push_back("clock-jump" + worker +
                      Ms(random.Between("skew", 1, 4'000'000)) + " after 0s " +
                      (random.OneIn("ahead", 2) ? "ahead" : "behind"));
    }
    if (random.OneIn("drifts", 2)) {
      lines.push_back(
          "clock-drift" + worker + Ms(random.Between("drift", 1, 300)) +
          " after 0s for ever " + (random.OneIn("fast", 2) ? "fast" : "slow"));
    }
  }
  return lines;
}

std::vector<std::string> DrawClockFaults(Draws random,
                                         const ScenarioParams& /*params*/) {
  std::vector<std::string> lines = DrawClocks(random.Part("clocks"));
  if (random.OneIn("is set", 2)) {
    lines.push_back("clock-jump w" +
                    std::to_string(random.Below("who is set", kWorkers)) + " " +
                    Ms(random.Between("jump", 1, 4'000'000)) + " after " +
                    Ms(random.Between("set at", 1, 1000)) +
                    (random.OneIn("set ahead", 2) ? " ahead" : " behind"));
  }
  if (random.OneIn("is slow", 2)) {
    lines.push_back("slow w" +
                    std::to_string(random.Below("who is slow", kWorkers)) +
                    " " + std::to_string(random.Between("step", 10, 5000)) +
                    "us after " + Ms(random.Between("slow at", 1, 1000)) +
                    " for " + Ms(random.Between("slow for", 100, 2000)));
  }
  return lines;
}

// A holder may stand still for longer than its lease, and the store be so slow
// that it cannot be done within half of it.
std::vector<std::string> DrawLeaseFaults(Draws random,
                                         const ScenarioParams& /*params*/) {
  std::vector<std::string> lines = DrawClocks(random.Part("clocks"));
  if (random.OneIn("pause", 2)) {
    const std::string worker =
        "w" + std::to_string(random.Below("who pauses", kWorkers));
    lines.push_back("pause " + worker + " when " + worker + " store#" +
                    std::to_string(random.Between("operation", 1, 60)) +
                    " for " + Ms(random.Between("pause length", 100, 3000)));
  }
  if (random.OneIn("slow store", 2)) {
    lines.push_back("store-delay " + Ms(random.Between("delay", 1, 30)) +
                    " after " + Ms(random.Between("slow at", 1, 1000)) +
                    " for " + Ms(random.Between("slow for", 100, 3000)));
  }
  return lines;
}

REPRISE_SCENARIO(clocks,
                 {.description = "clocks that do not agree, and slow workers",
                  .workers = kWorkers,
                  .params = {{"calls", 20}},
                  .smallest = {{"calls", 1}},
                  .body = Clocks,
                  .faults = DrawClockFaults,
                  .probes = {"timed out"},
                  .fault_kinds = {"clock-jump", "clock-drift", "slow"},
                  .enough_seeds = 50,
                  .max_time = absl::Minutes(5),
                  .settle_time = absl::Minutes(3)});

REPRISE_SCENARIO(
    drifting_leases,
    {.description = "the lock of a dynamic group, by clocks that do not agree",
     .workers = kWorkers,
     .body = DriftingLeases,
     .faults = DrawLeaseFaults,
     .probes = {"joined and left"},
     .fault_kinds = {"clock-jump", "clock-drift", "pause", "store-delay"},
     .enough_seeds = 50,
     .max_time = absl::Minutes(10),
     .settle_time = absl::Minutes(5)});

}  // namespace
}  // namespace reprise::scenarios
