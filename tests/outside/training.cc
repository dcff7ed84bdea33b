// Two trainers train on two shards of parameters, which die and come back
// meanwhile, while the store has outages. In the end, every push that was
// acknowledged to a trainer counts once.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "parameter_server.h"
#include "sim/scenario/scenario.h"

namespace {

using ::outside::ParameterClient;
using ::outside::ParameterShard;
using ::reprise::Agent;
using ::reprise::Worker;

constexpr int kShards = 2;
constexpr int kTrainers = 2;
constexpr int64_t kValues = 100;  // of each shard
constexpr absl::Duration kPatience = absl::Minutes(10);

// Counts the trainers that have got so far, and waits for all of them. The
// store may be away meanwhile.
bool Meet(Worker& worker, const std::string& where, bool is_trainer) {
  const std::shared_ptr<reprise::Store> store = worker.environment().store;
  const std::string mine = where + "/" + worker.name();
  const absl::Time end = worker.In(kPatience);
  bool has_come = !is_trainer;
  while (worker.runtime().Now() < end) {
    const absl::Time deadline = worker.In(absl::Seconds(5));
    has_come = has_come || store->Set(mine, "here", deadline).ok();
    int there = 0;
    for (int rank = kShards; rank < kShards + kTrainers; ++rank) {
      there += store->TryGet(where + "/" + worker.NameOf(rank), deadline).ok();
    }
    if (has_come && there == kTrainers) return true;
    worker.Sleep(absl::Milliseconds(20));
  }
  return worker.Check(false, "meet", "not all trainers came to " + where);
}

void Serve(Worker& worker) {
  absl::StatusOr<std::unique_ptr<ParameterShard>> shard;
  const absl::Time end = worker.In(kPatience);
  do {  // an outage of the store may fall into the start
    shard = ParameterShard::Start(worker.environment(), worker.options(),
                                  kValues, worker.In(absl::Minutes(1)));
  } while (!shard.ok() && worker.runtime().Now() < end);
  if (!worker.CheckOk(shard.status(), "start")) return;
  if (worker.incarnation() > 0) worker.Reached("a shard came back");
  Meet(worker, "verified", /*is_trainer=*/false);
  worker.CheckOk((*shard)->Stop(worker.In(absl::Minutes(1))), "stop");
}

void Train(Worker& worker) {
  const int64_t steps = worker.param("steps");
  absl::StatusOr<std::unique_ptr<Agent>> agent = Agent::Start(
      worker.environment(), worker.options(),
      reprise::Blocking([](reprise::Message, const reprise::RequestInfo&)
                            -> absl::StatusOr<reprise::Message> {
        return absl::UnimplementedError("a trainer serves nothing");
      }),
      worker.In(kPatience));
  if (!worker.CheckOk(agent.status(), "start")) return;
  std::vector<std::string> shards;
  for (int rank = 0; rank < kShards; ++rank) {
    shards.push_back(worker.NameOf(rank));
  }
  ParameterClient client(worker.runtime(), **agent, shards);
  for (int64_t step = 1; step <= steps; ++step) {
    worker.CheckOk(client.Push(step, std::vector<float>(kValues, 1), kPatience),
                   "push");
  }
  if (Meet(worker, "trained", /*is_trainer=*/true)) {
    const absl::StatusOr<std::vector<float>> values = client.Pull(kPatience);
    if (worker.CheckOk(values.status(), "pull")) {
      const std::vector<float> expected(kShards * kValues,
                                        static_cast<float>(kTrainers * steps));
      worker.Check(*values == expected, "once",
                   "a value is " + std::to_string(values->front()) + " or " +
                       std::to_string(values->back()) + ", not " +
                       std::to_string(expected.front()));
    }
  }
  if ((*agent)->GetMetrics()["agent.retries"] > 0) {
    worker.Reached("a push or a pull was sent again");
  }
  Meet(worker, "verified", /*is_trainer=*/true);
  worker.CheckOk((*agent)->Shutdown(worker.In(absl::Minutes(1))), "shut down");
}

void Training(Worker& worker) {
  if (worker.rank() < kShards) {
    Serve(worker);
  } else {
    Train(worker);
  }
}

std::vector<std::string> DrawFaults(reprise::Draws random,
                                    const reprise::ScenarioParams&) {
  std::vector<std::string> faults;
  if (random.OneIn("no fault", 4)) return faults;
  const std::string shard =
      "w" + std::to_string(random.Below("shard", kShards));
  const std::string at =
      random.OneIn("at a request", 2) ? " request#" : " reply#";
  const std::string count = std::to_string(random.Between("count", 1, 8));
  const std::string pause = std::to_string(random.Between("restart", 1, 3000));
  faults.push_back("crash " + shard + " when " + shard + at + count +
                   " restart " + pause + "ms");
  if (random.OneIn("outage", 3)) {
    const std::string length =
        std::to_string(random.Between("length", 1, 2000));
    faults.push_back("store-outage " + shard + " when " + shard +
                     " request#2 for " + length + "ms");
  }
  return faults;
}

REPRISE_SCENARIO(training, {.description = "every push counts once",
                            .workers = kShards + kTrainers,
                            .params = {{"steps", 4}},
                            .body = Training,
                            .faults = DrawFaults,
                            .probes = {"a shard came back",
                                       "a push or a pull was sent again"},
                            .fault_kinds = {"crash"},
                            .enough_seeds = 50,
                            .max_time = absl::Hours(1),
                            .settle_time = absl::Minutes(30)});

}  // namespace
