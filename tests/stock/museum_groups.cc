// The museum: defects of joining, shutting down and listening.

#include <string>
#include <utility>
#include <vector>

#include "tests/stock/museum.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(200);

// Defect 8: the thread that ends calls in time is told to stop without its
// lock, so that it may just have looked, and then sleeps on. It looks when a
// call's deadline comes, also when the call has long been answered, and
// PyTorch's deadlines are whole milliseconds. So the agents shut down close to
// one.
void Shutdown(Worker& worker) {
  auto peer = Peer::Start(worker, KindOf(worker));
  if (!worker.CheckOk(peer.status(), "start")) return;
  Draws random = worker.random("shutdown");
  const int other = (worker.rank() + 1) % worker.world_size();
  constexpr absl::Duration kTimeout = absl::Milliseconds(20);
  const absl::Time deadline = worker.In(kTimeout);
  const absl::StatusOr<PendingCall> call = (*peer)->Send(other, "E", kTimeout);
  Await(worker, "a call", call, worker.In(kPatience)).status().IgnoreError();
  worker.CheckOk((*peer)->Join(absl::Seconds(60)), "join");
  const absl::Time looks = absl::FromUnixMillis(absl::ToUnixMillis(deadline));
  worker.runtime().SleepUntil(
      looks + absl::Microseconds(random.Between("after", 0, 40)));
  worker.CheckOk((*peer)->Shutdown(), "shutdown");
}

REPRISE_SCENARIO(
    stock_shutdown,
    {.description = "museum, defect 8: a lost wake-up, and shutdown hangs",
     .workers = 2,
     .worker_range = ParamRange{2, 16},
     .params = {{"ours", 0}},
     .param_ranges = {{"ours", {0, 1}}},
     .body = Shutdown,
     .foreign_code = true});

// Defect 12: the timeout of `join` is not looked at.
void JoinTimeout(Worker& worker) {
  auto peer = Peer::Start(worker, KindOf(worker));
  if (!worker.CheckOk(peer.status(), "start")) return;
  if (worker.rank() == 0) {
    Await(worker, "a call of 10 s",
          (*peer)->Send(1, "S10000", absl::ZeroDuration()),
          worker.In(kPatience))
        .status()
        .IgnoreError();
  } else {
    worker.Sleep(absl::Milliseconds(100));  // The call has come.
  }
  const absl::Time begin = worker.In(absl::ZeroDuration());
  NoteStatus(worker, "join with a timeout of 1 s returns",
             (*peer)->Join(absl::Seconds(1)));
  const absl::Duration took = worker.In(absl::ZeroDuration()) - begin;
  worker.Check(took < absl::Seconds(2), "join-deadline",
               "join with a timeout of 1 s took " +
                   std::to_string(absl::ToInt64Milliseconds(took)) + " ms");
  worker.CheckOk((*peer)->Shutdown(), "shutdown");
}

REPRISE_SCENARIO(
    stock_join_timeout,
    {.description = "museum, defect 12: join does not look at its timeout",
     .workers = 2,
     .params = {{"ours", 0}},
     .param_ranges = {{"ours", {0, 1}}},
     .body = JoinTimeout,
     .foreign_code = true});

// Defect 13: barriers are numbered by a static of the process, so two agents of
// one process wait for each other at different barriers.
void BarrierNumber(Worker& worker) {
  auto peer =
      Peer::Start(worker, KindOf(worker), {.own_barrier_numbers = false});
  if (!worker.CheckOk(peer.status(), "start")) return;
  JoinAndShutdown(worker, **peer);
}

REPRISE_SCENARIO(
    stock_barrier_number,
    {.description = "museum, defect 13: two agents of one process cannot join",
     .workers = 2,
     .params = {{"ours", 0}},
     .param_ranges = {{"ours", {0, 1}}},
     .body = BarrierNumber,
     .foreign_code = true});

// TensorPipe's defect a: a client that goes away before it has said anything
// breaks the listener, and the agent never listens again.
void Knock(Worker& worker) {
  auto peer = Peer::Start(worker, KindOf(worker));
  if (!worker.CheckOk(peer.status(), "start")) return;
  if (worker.rank() == 0) {
    worker.Sleep(absl::Seconds(1));  // Somebody connects, and goes away.
    worker.CheckOk(Await(worker, "the first call", (*peer)->Send(1, "E"),
                         worker.In(kPatience))
                       .status(),
                   "reachable");
  }
  JoinAndShutdown(worker, **peer);
}

REPRISE_SCENARIO(
    stock_knock,
    {.description = "museum, TensorPipe's defect a: one visitor, and the "
                    "worker is unreachable",
     .workers = 2,
     .params = {{"ours", 0}},
     .param_ranges = {{"ours", {0, 1}}},
     .body = Knock,
     .faults =
         [](Draws, const ScenarioParams&) {
           return std::vector<std::string>{"drop-connect w1 after 500ms"};
         },
     .foreign_code = true});

// Defect 25: between entering a call as pending and counting it, `send` can be
// overtaken by the failure of its connection, which subtracts the call.
void Cut(Worker& worker) {
  auto peer = Peer::Start(worker, KindOf(worker));
  if (!worker.CheckOk(peer.status(), "start")) return;
  Draws random = worker.random("calls");
  std::vector<absl::StatusOr<PendingCall>> calls;
  for (int i = 0; i < worker.param("calls"); ++i) {
    const int64_t step = random.Between("peer", 1, worker.world_size() - 1);
    calls.push_back((*peer)->Send(
        (worker.rank() + static_cast<int>(step)) % worker.world_size(),
        random.OneIn("works", 3) ? "S3" : "E", absl::Seconds(5)));
    if (!calls.back().ok()) {
      NoteStatus(worker, "send", calls.back().status());
    } else if (random.OneIn("waits", 3)) {
      (*calls.back())(worker.In(kPatience)).status().IgnoreError();
    }
  }
  for (const auto& call : calls) {
    if (!call.ok()) continue;
    const absl::Status status = (*call)(worker.In(kPatience)).status();
    worker.Check(!absl::IsAborted(status), "call-deadline",
                 "a call with a timeout of 5 s has not ended after 200 s");
  }
  worker.Sleep(absl::Seconds(1));
  worker.Note("the agent counts " + std::to_string((*peer)->active_calls()) +
              " pending calls");
  NoteStatus(worker, "join returns", (*peer)->Join(absl::Seconds(60)));
  worker.CheckOk((*peer)->Shutdown(), "shutdown");
}

REPRISE_SCENARIO(
    stock_cut,
    {.description = "museum, defect 25: a connection fails during a send, and "
                    "join hangs",
     .workers = 2,
     .worker_range = ParamRange{2, 16},
     .params = {{"calls", 12}, {"ours", 0}},
     .param_ranges = {{"ours", {0, 1}}},
     .smallest = {{"calls", 1}},
     .body = Cut,
     .faults =
         [](Draws random, const ScenarioParams&) {
           std::vector<std::string> faults;
           const int64_t cuts = random.Between("cuts", 1, 2);
           for (int64_t i = 0; i < cuts; ++i) {
             faults.push_back(
                 "cut w0-w1 when w" + std::to_string(random.Below("whose", 2)) +
                 " net.deliver#" +
                 std::to_string(random.Between("frame", 4, 60)) + " reset");
           }
           return faults;
         },
     .fault_kinds = {"cut"},
     .foreign_code = true});

}  // namespace
}  // namespace reprise::scenarios
