// A scenario in another workspace: every worker greets every other one.

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "sim/scenario/scenario.h"

namespace {

using ::reprise::Agent;
using ::reprise::Message;
using ::reprise::RequestInfo;
using ::reprise::Worker;

absl::StatusOr<Message> Greet(Message request, const RequestInfo& info) {
  return Message{reprise::MessageType::kScriptRet,
                 request.payload + ", " + info.caller + "!",
                 {}};
}

void GreetAll(Worker& worker, Agent& agent) {
  for (int rank = 0; rank < worker.world_size(); ++rank) {
    if (rank == worker.rank()) continue;
    reprise::Future reply =
        agent.Send(worker.NameOf(rank),
                   Message{reprise::MessageType::kScriptCall, "Hello", {}});
    if (!worker.CheckOk(reply.status(), "greeted")) return;
    worker.Check(reply.result()->payload == "Hello, " + worker.name() + "!",
                 "politely", reply.result()->payload);
  }
}

void Greeting(Worker& worker) {
  absl::StatusOr<std::unique_ptr<Agent>> agent =
      Agent::Start(worker.environment(), worker.options(),
                   reprise::Blocking(Greet), worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "started")) return;
  GreetAll(worker, **agent);
  worker.CheckOk((*agent)->JoinForShutdown(worker.In(absl::Minutes(1))),
                 "joined");
  worker.CheckOk((*agent)->Shutdown(worker.In(absl::Minutes(1))), "shut down");
}

REPRISE_SCENARIO(greeting, {.description = "every worker greets every other",
                            .workers = 3,
                            .body = Greeting});

}  // namespace
