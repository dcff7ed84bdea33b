// A keyed call is the first one to a member that is leaving. That one serves,
// or is no member any more; and whatever the caller learns, the store has
// answered.

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "agent/agent.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kUntilItLeaves = absl::Seconds(3);
constexpr absl::Duration kLongestLeave = absl::Seconds(3);

absl::StatusOr<Message> Answer(Message request, const RequestInfo& /*info*/) {
  request.type = MessageType::kScriptRet;
  return request;
}

void CallALeaver(Worker& worker, Agent& agent) {
  const absl::Time start = worker.runtime().Now();
  if (!worker.CheckOk(
          agent.WaitForWorker("w1", worker.In(absl::Seconds(30))).status(),
          "look-up")) {
    return;
  }
  Draws random = worker.random("calls");
  worker.runtime().SleepUntil(start + kUntilItLeaves +
                              DrawDuration(random, "when", kLongestLeave));
  Message request;
  request.type = MessageType::kScriptCall;
  const absl::Status status =
      agent
          .Send("w1", std::move(request),
                {.timeout = absl::Seconds(2), .idempotency_key = "once"})
          .status();
  worker.Reached(status.ok() ? "was served" : "came too late");
  worker.Check(
      status.ok() || absl::IsNotFound(status) || absl::IsUnavailable(status),
      "call", status.ToString());
  worker.Check(!absl::StrContains(status.message(), "could not be asked"),
               "true-cause", status.ToString());
}

void KeyedToLeaver(Worker& worker) {
  AgentOptions options = worker.options();
  options.world_size = kDynamicGroup;
  options.membership_refresh = absl::Seconds(2);
  auto agent = Agent::Start(worker.environment(), options, Blocking(Answer),
                            worker.In(absl::Seconds(30)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  if (worker.rank() == 0) {
    CallALeaver(worker, **agent);
  } else {
    worker.Sleep(kUntilItLeaves);
    worker.CheckOk((*agent)->Leave(worker.In(absl::Minutes(1))), "leave");
  }
  worker.CheckOk((*agent)->Shutdown(worker.In(absl::Seconds(10))), "shutdown");
}

REPRISE_SCENARIO(keyed_to_leaver,
                 {.description = "a keyed call to a member that is leaving",
                  .workers = 2,
                  .body = KeyedToLeaver,
                  .probes = {"was served", "came too late"},
                  .enough_seeds = 50,
                  .max_time = absl::Minutes(5)});

}  // namespace
}  // namespace reprise::scenarios
