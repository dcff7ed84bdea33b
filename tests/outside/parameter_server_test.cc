// A shard and a trainer over real transports in this process; the shard stops
// and starts again in the middle. The program checks itself.

#include "parameter_server.h"

#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "agent/runtime/runtime.h"
#include "agent/store/memory_store.h"
#include "agent/transport/transports.h"

namespace {

using ::outside::ParameterClient;
using ::outside::ParameterShard;
using ::reprise::Agent;

constexpr int64_t kValues = 1000;
constexpr absl::Duration kTimeout = absl::Seconds(30);

int failures = 0;

void Check(bool holds, const std::string& what) {
  if (holds) return;
  std::cout << "wrong: " << what << "\n";
  ++failures;
}

void CheckOk(const absl::Status& status, const std::string& what) {
  Check(status.ok(), what + ": " + status.ToString());
}

absl::Time Soon() { return reprise::RealRuntime().Now() + kTimeout; }

reprise::AgentOptions OptionsFor(int id) {
  reprise::AgentOptions options;
  options.name = id == 0 ? "shard" : "trainer";
  options.id = id;
  options.world_size = 2;
  options.transport.bind_address = "127.0.0.1";
  return options;
}

std::unique_ptr<ParameterShard> StartShard(
    const reprise::Environment& environment) {
  absl::StatusOr<std::unique_ptr<ParameterShard>> shard =
      ParameterShard::Start(environment, OptionsFor(0), kValues, Soon());
  CheckOk(shard.status(), "the shard starts");
  return shard.ok() ? *std::move(shard) : nullptr;
}

void CheckValues(ParameterClient& client, float expected) {
  const absl::StatusOr<std::vector<float>> values = client.Pull(kTimeout);
  CheckOk(values.status(), "pull");
  if (values.ok()) {
    Check(*values == std::vector<float>(kValues, expected),
          "a value is " + std::to_string(values->front()) + ", not " +
              std::to_string(expected));
  }
}

void Train(Agent& agent, std::unique_ptr<ParameterShard>& shard,
           const reprise::Environment& environment) {
  ParameterClient client(reprise::RealRuntime(), agent, {"shard"});
  const std::vector<float> ones(kValues, 1);
  CheckOk(client.Push(1, ones, kTimeout), "push 1");
  CheckOk(client.Push(1, ones, kTimeout), "push 1, resent");
  CheckOk(client.Push(2, ones, kTimeout), "push 2");
  CheckValues(client, 2);

  CheckOk(shard->Stop(Soon()), "the shard stops");
  shard = nullptr;
  const absl::Status away = client.Push(3, ones, absl::Milliseconds(100));
  Check(!away.ok(), "a push is acknowledged by no shard");
  shard = StartShard(environment);
  if (shard == nullptr) return;
  CheckOk(client.Push(3, ones, kTimeout), "push 3, after the restart");
  CheckOk(client.Push(2, ones, kTimeout), "push 2, resent after the restart");
  CheckValues(client, 3);
  Check(absl::IsFailedPrecondition(client.Push(5, ones, kTimeout)),
        "a push that was lost is not noticed");
}

}  // namespace

int main() {
  const reprise::Environment environment{
      &reprise::RealRuntime(), reprise::MakeMemoryStore(reprise::RealRuntime()),
      &reprise::RealTransports()};
  std::unique_ptr<ParameterShard> shard;
  std::thread starts([&] { shard = StartShard(environment); });
  absl::StatusOr<std::unique_ptr<Agent>> trainer = Agent::Start(
      environment, OptionsFor(1),
      reprise::Blocking([](reprise::Message, const reprise::RequestInfo&)
                            -> absl::StatusOr<reprise::Message> {
        return absl::UnimplementedError("a trainer serves nothing");
      }),
      Soon());
  starts.join();
  CheckOk(trainer.status(), "the trainer starts");
  if (trainer.ok() && shard != nullptr) {
    Train(**trainer, shard, environment);
    CheckOk((*trainer)->Shutdown(Soon()), "the trainer stops");
    if (shard != nullptr) CheckOk(shard->Stop(Soon()), "the shard stops");
  }
  std::cout << (failures == 0 ? "all is well\n" : "");
  return failures == 0 ? 0 : 1;
}
