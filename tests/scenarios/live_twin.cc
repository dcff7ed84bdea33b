// A worker tries to join a dynamic group under the name and id of a member that
// lives, over connections that break while it finds out whether that one does.
// Rules, besides those of echo_agent.h:
//
//  twin     it never gets in
//  evicted  the member stays one, and can be called

#include <memory>
#include <string>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kJoin = absl::Seconds(20);

void LiveTwin(Worker& worker) {
  AgentOptions options = worker.options();
  options.world_size = kDynamicGroup;
  const bool is_twin = worker.rank() == 1;
  if (is_twin) {
    options.name = worker.NameOf(0);
    options.id = 0;
    worker.Sleep(absl::Seconds(1));
    Draws random = worker.random("twin");
    for (int attempt = 1; attempt <= 4; ++attempt) {
      const absl::Status joined =
          EchoAgent::Start(
              worker, options,
              worker.In(DrawDuration(random, "patience", absl::Seconds(4))),
              attempt)
              .status();
      if (absl::IsAlreadyExists(joined)) worker.Reached("was refused");
      if (absl::IsDeadlineExceeded(joined)) worker.Reached("could not tell");
      worker.Check(
          absl::IsAlreadyExists(joined) || absl::IsDeadlineExceeded(joined),
          "twin", joined.ToString());
    }
    return;
  }
  auto agent = EchoAgent::Start(worker, options, worker.In(kJoin));
  if (!worker.CheckOk(agent.status(), "start")) return;
  worker.Sleep(absl::Seconds(18));
  const absl::StatusOr<WorkerInfo> self =
      (*agent)->agent().GetWorkerInfo(options.name);
  worker.Check(self.ok() && self->id == 0, "evicted",
               self.ok() ? "it has another id" : self.status().ToString());
  const CallSpec spec = (*agent)->NewCall();
  worker.CheckOk((*agent)->Await((*agent)->Send(options.name, spec), spec),
                 "evicted");
  worker.CheckOk((*agent)->agent().Leave(worker.In(kJoin)), "leave");
  worker.CheckOk((*agent)->Shutdown(absl::Seconds(5)), "shutdown");
}

// The first connections break, one after another, at some step of theirs.
std::vector<std::string> BreakTheChecks(Draws random,
                                        const ScenarioParams& /*params*/) {
  std::vector<std::string> lines;
  const std::string end = random.OneIn("reset", 2) ? " reset" : " eof";
  const int64_t breaks = random.Between("breaks", 0, 12);
  for (int64_t i = 1; i <= breaks; ++i) {
    lines.push_back("cut w0-w1 when w0 net.accept#" + std::to_string(i) + end);
  }
  // Not of the member, which must be there before its twin comes.
  if (random.OneIn("in doubt of the store", 3)) {
    lines.push_back("store-lost-reply w1 when w1 store#" +
                    std::to_string(random.Between("operation", 1, 40)) +
                    " for 1us" +
                    (random.OneIn("silent", 2) ? " silent" : " reset"));
  }
  return lines;
}

REPRISE_SCENARIO(live_twin,
                 {.description = "a worker wants the place of one that lives",
                  .workers = 2,
                  .body = LiveTwin,
                  .faults = BreakTheChecks,
                  .probes = {"was refused", "could not tell"},
                  .fault_kinds = {"cut", "store-lost-reply"},
                  .enough_seeds = 50,
                  .max_time = absl::Minutes(5),
                  .settle_time = absl::Minutes(3)});

}  // namespace
}  // namespace reprise::scenarios
