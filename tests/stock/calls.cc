// A group of PyTorch's own agents, whose workers call each other: what must
// hold there holds. Nothing fails in it, unless a fault is given.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/stock/museum.h"
#include "tests/stock/peer.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(200);

// A call, and whether its error is what was asked for.
struct Request {
  std::string payload;
  absl::Duration timeout = kUnsetTimeout;
  bool may_fail = false;
};

Request DrawRequest(int number, Draws random) {
  switch (random.Below("kind", 8)) {
    case 0:
      return {"S5", absl::Milliseconds(2), true};
    case 1:
      return {"S2", absl::Milliseconds(200)};
    case 2:
      return {"F", kUnsetTimeout, true};
    default:
      return {"E" + std::to_string(number)};
  }
}

void CheckAnswer(Worker& worker, const Request& request,
                 const absl::StatusOr<std::string>& answer) {
  if (!answer.ok()) {
    worker.Check(request.may_fail, "call",
                 request.payload + ": " + answer.status().ToString());
    return;
  }
  worker.Check(*answer == request.payload, "content",
               request.payload + " was answered with " + *answer);
}

void Calls(Worker& worker) {
  auto peer = Peer::Start(worker, KindOf(worker));
  if (!worker.CheckOk(peer.status(), "start")) return;
  Draws random = worker.random("calls");
  std::vector<std::pair<Request, PendingCall>> calls;
  for (int i = 0; i < worker.param("calls"); ++i) {
    const int64_t step = random.Between("peer", 1, worker.world_size() - 1);
    const int to =
        (worker.rank() + static_cast<int>(step)) % worker.world_size();
    Request request = DrawRequest(i, random.Part("request"));
    absl::StatusOr<PendingCall> call =
        (*peer)->Send(to, request.payload, request.timeout);
    if (!worker.CheckOk(call.status(), "send")) return;
    calls.emplace_back(std::move(request), *std::move(call));
    if (random.OneIn("waits", 3)) {
      calls.back().second(worker.In(kPatience)).status().IgnoreError();
    }
  }
  for (const auto& [request, call] : calls) {
    CheckAnswer(worker, request, call(worker.In(kPatience)));
  }
  worker.Reached("all calls ended");
  worker.CheckOk((*peer)->Join(absl::Seconds(60)), "join");
  worker.CheckOk((*peer)->Shutdown(), "shutdown");
}

REPRISE_SCENARIO(stock_calls,
                 {.description = "PyTorch's agents call each other",
                  .workers = 3,
                  .worker_range = ParamRange{2, 16},
                  .params = {{"calls", 12}, {"ours", 0}},
                  .param_ranges = {{"ours", {0, 1}}},
                  .smallest = {{"calls", 1}},
                  .body = Calls,
                  .probes = {"all calls ended"},
                  .enough_seeds = 10,
                  .max_time = absl::Minutes(10),
                  .foreign_code = true});

}  // namespace
}  // namespace reprise::scenarios
