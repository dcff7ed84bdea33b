// Many agents in one world: they start in groups of `group`, each calls the
// next one of its group once, and all of a group leave together.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "agent/store/store.h"
#include "sim/scenario/scenario.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(5);

// Waits until all of the group are here. (The rule `barrier` would want all
// workers of the run in a barrier of the agents.)
absl::Status MeetAll(Worker& worker, Store& store, int64_t members) {
  const absl::Time deadline = worker.In(kPatience);
  const absl::StatusOr<int64_t> here = store.Add("many/here", 1, deadline);
  if (!here.ok()) return here.status();
  if (*here == members) return store.Set("many/all", "", deadline);
  return store.Get("many/all", deadline).status();
}

void Many(Worker& worker) {
  const int group = static_cast<int>(worker.param("group"));
  const int first = worker.rank() / group * group;
  const int size = std::min(group, worker.world_size() - first);
  const int next = first + (worker.rank() - first + 1) % size;
  const auto store = MakePrefixStore(worker.environment().store,
                                     "group-" + std::to_string(first) + "/");
  AgentOptions options = worker.options();
  options.id = worker.rank() - first;
  options.world_size = size;
  options.num_worker_threads = 1;
  Environment environment = worker.environment();
  environment.store = store;
  auto agent = Agent::Start(
      environment, options, Blocking([](Message request, const RequestInfo&) {
        request.type = MessageType::kScriptRet;
        return absl::StatusOr<Message>(std::move(request));
      }),
      worker.In(kPatience));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Message request;
  request.type = MessageType::kScriptCall;
  request.payload = worker.name();
  const Future reply = (*agent)->Send(worker.NameOf(next), std::move(request),
                                      {.timeout = kPatience});
  if (worker.CheckOk(reply.status(), "call")) {
    worker.Check(reply.result()->payload == worker.name(), "content",
                 "another payload came back");
  }
  worker.CheckOk(MeetAll(worker, *store, size), "meet");
  worker.CheckOk((*agent)->Shutdown(worker.In(kPatience)), "shutdown");
}

REPRISE_SCENARIO(
    many, {.description = "many agents in groups start, call once and end",
           .workers = 12,
           .worker_range = ParamRange{1, 20000},
           .params = {{"group", 4}},
           .param_ranges = {{"group", {1, 1000}}},
           .body = Many,
           .enough_seeds = 10});

}  // namespace
}  // namespace reprise::scenarios
