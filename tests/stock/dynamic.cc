// Dynamic groups. PyTorch's agents are told of members by calls of its Python
// side, which the body makes in its place. Ours find each other.

#include <string>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "agent/agent.h"
#include "sim/stock/stock_agent.h"
#include "tests/stock/museum.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(200);

StockMember MemberOf(const Worker& worker, int rank) {
  return {.name = worker.NameOf(rank), .id = rank};
}

// Defect 3: the leave of a member without devices takes away everybody's.
void ForgetDevices(Worker& worker, StockAgent& agent) {
  StockMember peer = MemberOf(worker, 1);
  peer.devices = {1};
  worker.CheckOk(agent.AddMember(peer), "join-of-a-member");
  const int64_t before = agent.num_devices();
  worker.CheckOk(agent.RemoveMember({.name = "w7", .id = 7}),
                 "leave-of-a-member");
  worker.Check(agent.num_devices() == before, "devices-kept",
               "after the leave of a member without devices there are " +
                   std::to_string(agent.num_devices()) + " of " +
                   std::to_string(before) + " devices");
}

// Defect 2: a member that joins is known by its name before its address is, and
// no lock keeps a call from looking in between.
void FindHalfAMember(Worker& worker, StockAgent& agent) {
  const StockMember peer = MemberOf(worker, 1);
  bool has_ended = false;
  std::thread rejoins([&] {
    for (int i = 0; i < 6; ++i) {
      worker.CheckOk(agent.RemoveMember(peer), "leave-of-a-member");
      worker.CheckOk(agent.AddMember(peer), "join-of-a-member");
    }
    has_ended = true;
  });
  while (!has_ended) {
    const absl::Status status = agent.SendByName(peer.name, "E").status();
    // That nobody has this name is true while the member is away.
    const bool is_half = absl::StrContains(status.message(), "destination url");
    if (!worker.Check(!is_half, "whole-members", status.ToString())) break;
    worker.Sleep(absl::Microseconds(50));
  }
  rejoins.join();
}

// Defects 1 and 17: what is looked up is a reference into a map, from which
// another thread erases meanwhile. A connection is made at the first call only,
// so there are several members, all of which are w1 by other names.
void CallALeavingMember(Worker& worker, StockAgent& agent) {
  constexpr int kMembers = 8;
  Store& store = *worker.environment().store;
  const absl::Time deadline = worker.In(kPatience);
  const absl::StatusOr<std::string> url = store.Get("addrs/w1", deadline);
  if (!worker.CheckOk(url.status(), "store")) return;
  for (int i = 0; i < kMembers; ++i) {
    const StockMember member = {.name = "x" + std::to_string(i), .id = 10 + i};
    worker.CheckOk(store.Set("addrs/" + member.name, *url, deadline), "store");
    worker.CheckOk(agent.AddMember(member), "join-of-a-member");
    std::thread leaves([&] {
      worker.CheckOk(agent.RemoveMember(member), "leave-of-a-member");
    });
    const absl::Status status = agent.SendByName(member.name, "E").status();
    worker.Check(status.ok() || absl::StrContains(status.message(),
                                                  "could not find destination"),
                 "living-members",
                 "a call to a member that leaves: " + status.ToString());
    leaves.join();
  }
}

// Defect 26: a leave while there is a reverse map at all.
void LeaveWithMap(Worker& worker, StockAgent& agent) {
  StockMember peer = MemberOf(worker, 1);
  peer.reverse_map = {{0, 1}};
  worker.CheckOk(agent.AddMember(peer), "join-of-a-member");
  worker.Note("another member leaves");
  worker.CheckOk(agent.RemoveMember({.name = "w7", .id = 7}),
                 "leave-of-a-member");
}

// Tells the other worker, and waits until it has told.
void Tell(Worker& worker, const std::string& what) {
  worker.CheckOk(
      worker.environment().store->Set("test/" + what, "", worker.In(kPatience)),
      "store");
}
void WaitFor(Worker& worker, const std::string& what) {
  worker.CheckOk(worker.environment()
                     .store->Get("test/" + what, worker.In(kPatience))
                     .status(),
                 "store");
}

void DynamicStock(Worker& worker, void (*show)(Worker&, StockAgent&)) {
  // PyTorch's Python side lets only one member at a time join or leave: here
  // w0 comes first.
  if (worker.rank() == 1) WaitFor(worker, "w0 has joined");
  auto agent = StockAgent::Start(
      worker.environment(),
      {.name = worker.name(), .id = worker.rank(), .world_size = 0},
      [](StockAgent&, const std::string& payload) { return payload; });
  if (!worker.CheckOk(agent.status(), "start")) return;
  Tell(worker, worker.name() + " has joined");
  if (worker.rank() == 0) WaitFor(worker, "w1 has joined");
  worker.CheckOk((*agent)->AddMember(MemberOf(worker, 1 - worker.rank())),
                 "join-of-a-member");
  if (worker.rank() == 0) show(worker, **agent);
  worker.Sleep(absl::Seconds(1));  // The calls end.
  if (worker.rank() == 1) WaitFor(worker, "w0 has left");
  worker.CheckOk((*agent)->Join(absl::Seconds(60)), "join");
  if (worker.rank() == 0) Tell(worker, "w0 has left");
  (*agent)->Shutdown();
}

absl::StatusOr<std::unique_ptr<Agent>> StartOurs(Worker& worker) {
  AgentOptions options = worker.options();
  options.world_size = kDynamicGroup;
  return Agent::Start(
      worker.environment(), options,
      Blocking(
          [](Message request, const RequestInfo&) -> absl::StatusOr<Message> {
            request.type = MessageType::kScriptRet;
            return request;
          }),
      worker.In(kPatience));
}

// w1 leaves and joins, and w0 calls it by its name all the while.
void DynamicOurs(Worker& worker) {
  const int lives = worker.rank() == 0 ? 1 : 4;
  for (int i = 0; i < lives; ++i) {
    auto agent = StartOurs(worker);
    if (!worker.CheckOk(agent.status(), "start")) return;
    for (int call = 0; worker.rank() == 0 && call < 200; ++call) {
      Message request;
      request.type = MessageType::kScriptCall;
      request.payload = "E";
      const Future reply = (*agent)->Send("w1", std::move(request),
                                          {.timeout = absl::Seconds(5)});
      worker.Check(reply.Wait(worker.In(absl::Seconds(6))), "call-deadline",
                   "a call with a timeout of 5 s has not ended after 6 s");
      if (reply.status().ok()) worker.Reached("a call was answered");
      worker.Sleep(absl::Milliseconds(20));
    }
    if (worker.rank() == 1) worker.Sleep(absl::Milliseconds(500));
    worker.CheckOk((*agent)->Leave(worker.In(kPatience)), "leave");
    worker.CheckOk((*agent)->Shutdown(worker.In(kPatience)), "shutdown");
  }
}

void Dynamic(Worker& worker) {
  if (KindOf(worker) == PeerKind::kOurs) return DynamicOurs(worker);
  switch (worker.param("defect")) {
    case 2:
      return DynamicStock(worker, &FindHalfAMember);
    case 3:
      return DynamicStock(worker, &ForgetDevices);
    case 17:
      return DynamicStock(worker, &CallALeavingMember);
    case 26:
      return DynamicStock(worker, &LeaveWithMap);
    default:
      return DynamicStock(worker, [](Worker&, StockAgent&) {});
  }
}

REPRISE_SCENARIO(
    stock_dynamic,
    {.description = "museum, defects 2, 3, 17 and 26: members come "
                    "and go",
     .workers = 2,
     .params = {{"defect", 0}, {"ours", 0}},
     .param_ranges = {{"defect", {0, 26}}, {"ours", {0, 1}}},
     .body = Dynamic,
     .foreign_code = true});

}  // namespace
}  // namespace reprise::scenarios
