// A large tensor on its way does not hold up small calls to the same peer: they
// have a connection of their own. `--param lanes=0` puts both on one, and shows
// what the check is for.

#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "sim/scenario/scenario.h"

namespace reprise::scenarios {
namespace {

constexpr int kRounds = 2;

Message Request(int64_t tensor_bytes) {
  Message request{MessageType::kScriptCall, "x", {}};
  if (tensor_bytes > 0) {
    Tensor tensor = *MakeTensor(DType::kUInt8, {tensor_bytes});
    std::memset(tensor.storage->data(), 7, tensor.storage->num_bytes());
    request.tensors.push_back(std::move(tensor));
  }
  return request;
}

// The times are virtual: the tensor takes a second per gigabyte, and the small
// call only as long as its few frames take.
void Measure(Worker& worker, Agent& agent) {
  const int64_t large = int64_t{1} << worker.param("large_log2");
  const absl::Duration bound = absl::Milliseconds(worker.param("slack_ms"));
  const std::string peer = worker.NameOf(1);
  // Opens the connections.
  for (const int64_t size : {int64_t{0}, large}) {
    worker.CheckOk(agent.Send(peer, Request(size)).status(), "warm-up");
  }
  for (int i = 0; i < kRounds; ++i) {
    const Future bulk = agent.Send(peer, Request(large));
    const absl::Time start = worker.runtime().Now();
    const Future small = agent.Send(peer, Request(0));
    // A small request for something large would use the other lane.
    const Future chosen = agent.Send(peer, Request(0), {.lane = Lane::kBulk});
    worker.CheckOk(small.status(), "small");
    const absl::Duration took = worker.runtime().Now() - start;
    worker.Check(took < bound, "quick",
                 "a small call took " + absl::FormatDuration(took));
    if (!bulk.done()) worker.Reached("overtook a large one");
    worker.CheckOk(WhenAll(worker.runtime(), {bulk, chosen}).status(), "bulk");
  }
}

void Lanes(Worker& worker) {
  AgentOptions options = worker.options();
  if (worker.param("lanes") == 0) {
    options.bulk_bytes = std::numeric_limits<size_t>::max();
  }
  auto agent = Agent::Start(worker.environment(), options,
                            Blocking([](Message, const RequestInfo&) {
                              return absl::StatusOr<Message>(
                                  Message{MessageType::kScriptRet, "y", {}});
                            }),
                            worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  if (worker.rank() == 0) Measure(worker, **agent);
  worker.CheckOk((*agent)->JoinForShutdown(worker.In(absl::Minutes(5))),
                 "join");
  worker.CheckOk((*agent)->Shutdown(worker.In(absl::Minutes(1))), "shutdown");
}

REPRISE_SCENARIO(
    lanes, {.description = "small calls overtake large tensors",
            .workers = 2,
            .params = {{"lanes", 1}, {"large_log2", 25}, {"slack_ms", 16}},
            .body = Lanes,
            .probes = {"overtook a large one"},
            .enough_seeds = 10});

}  // namespace
}  // namespace reprise::scenarios
