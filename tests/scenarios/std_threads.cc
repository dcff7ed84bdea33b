// Two workers run code written with the threads, locks, clocks and random
// numbers of std::, absl:: and POSIX, and call each other from it.

#include "tests/scenarios/std_threads.h"

#include <memory>
#include <string>

#include "sim/scenario/scenario.h"

namespace reprise::scenarios {
namespace {

absl::StatusOr<Message> Echo(Message request, const RequestInfo& /*info*/) {
  request.type = MessageType::kScriptRet;
  return request;
}

void StdThreads(Worker& worker) {
  auto agent = Agent::Start(worker.environment(), worker.options(),
                            Blocking(Echo), worker.In(absl::Seconds(30)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  const std::string peer =
      worker.NameOf((worker.rank() + 1) % worker.world_size());
  const std_threads::Call call = [&](const std::string& text) {
    Message request;
    request.type = MessageType::kScriptCall;
    request.payload = text;
    const Future reply = (*agent)->Send(peer, request);
    const auto result = reply.result();
    return result.ok()
               ? std::string(result->payload.begin(), result->payload.end())
               : result.status().ToString();
  };

  struct Group {
    const char* name;
    std::string (*run)();
  };
  for (const Group& group :
       {Group{"mutexes", &std_threads::Mutexes},
        {"shared mutexes", &std_threads::SharedMutexes},
        {"condition variables", &std_threads::ConditionVariables},
        {"onces", &std_threads::Onces},
        {"threads", &std_threads::Threads},
        {"locals", &std_threads::Locals},
        {"futures", &std_threads::Futures},
        {"atomics", &std_threads::Atomics},
        {"semaphores", &std_threads::Semaphores},
        {"absl locks", &std_threads::AbslLocks},
        {"polls", &std_threads::Polls}}) {
    const std::string error = group.run();
    worker.Check(error.empty(), group.name, error);
  }
  const std::string error = std_threads::Pool(call);
  worker.Check(error.empty(), "pool", error);
  worker.Note(std_threads::Sources());
  if (worker.param("inversion") != 0) std_threads::Inversion();
  if (worker.param("lost_update") != 0) {
    worker.Check(std_threads::LostUpdate(), "balance", "a payment was lost");
  }

  worker.CheckOk((*agent)->JoinForShutdown(worker.In(absl::Seconds(60))),
                 "join");
  worker.CheckOk((*agent)->Shutdown(worker.In(absl::Seconds(10))), "shutdown");
}

REPRISE_SCENARIO(
    std_threads,
    {.description = "code written with the threads of std:: and absl::",
     .workers = 2,
     // Planted: two mutexes in both orders, and an update under two locks.
     .params = {{"inversion", 0}, {"lost_update", 0}},
     .body = StdThreads,
     .enough_seeds = 10});

}  // namespace
}  // namespace reprise::scenarios
