// The museum: defects that a single call shows.

#include <string>
#include <vector>

#include "tests/stock/museum.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(200);

// Defect 5: a connection that broke once is never made again.
void DeadPipe(Worker& worker) {
  auto peer = Peer::Start(worker, KindOf(worker));
  if (!worker.CheckOk(peer.status(), "start")) return;
  if (worker.rank() == 0) {
    Await(worker, "the first call", (*peer)->Send(1, "E"), worker.In(kPatience))
        .status()
        .IgnoreError();
    worker.Sleep(absl::Seconds(1));  // The connection is cut.
    Await(worker, "a call right after the cut", (*peer)->Send(1, "E"),
          worker.In(kPatience))
        .status()
        .IgnoreError();
    worker.Sleep(absl::Seconds(10));
    worker.CheckOk(Await(worker, "a call 10 s later", (*peer)->Send(1, "E"),
                         worker.In(kPatience))
                       .status(),
                   "reconnects");
  }
  JoinAndShutdown(worker, **peer);
}

REPRISE_SCENARIO(
    stock_dead_pipe,
    {.description = "museum, defect 5: one reset, and every later call fails",
     .workers = 2,
     .params = {{"ours", 0}},
     .param_ranges = {{"ours", {0, 1}}},
     .body = DeadPipe,
     .faults =
         [](Draws, const ScenarioParams&) {
           return std::vector<std::string>{"cut w0-w1 after 500ms reset"};
         },
     .foreign_code = true});

// Defect 6: what is sent again is the message that the first attempt emptied.
void Retry(Worker& worker) {
  auto peer = Peer::Start(worker, KindOf(worker));
  if (!worker.CheckOk(peer.status(), "start")) return;
  if (worker.rank() == 0) {
    const absl::StatusOr<std::string> answer =
        Await(worker, "a call whose first attempt fails",
              (*peer)->SendWithRetries(1, "R123"), worker.In(kPatience));
    worker.CheckOk(answer.status(), "retried-content");
  }
  JoinAndShutdown(worker, **peer);
}

REPRISE_SCENARIO(
    stock_retry,
    {.description = "museum, defect 6: a retry arrives without its payload",
     .workers = 2,
     .params = {{"ours", 0}},
     .param_ranges = {{"ours", {0, 1}}},
     .body = Retry,
     .foreign_code = true});

// Defect 7: a call that is refused for its tensors stays among the pending
// ones, and when the connection fails it is subtracted without having been
// added.
void Orphan(Worker& worker) {
  auto peer = Peer::Start(worker, KindOf(worker));
  if (!worker.CheckOk(peer.status(), "start")) return;
  if (worker.rank() == 0) {
    Await(worker, "the first call", (*peer)->Send(1, "E"), worker.In(kPatience))
        .status()
        .IgnoreError();
    const absl::Status refused =
        Await(worker, "a call with a tensor that no device map knows",
              (*peer)->SendUnmappedTensor(1), worker.In(kPatience))
            .status();
    worker.Check(!refused.ok(), "refused", "the tensor was sent");
    Await(worker, "a call whose connection is cut", (*peer)->Send(1, "S1000"),
          worker.In(kPatience))
        .status()
        .IgnoreError();
    worker.Sleep(absl::Seconds(1));
    worker.Note("the agent counts " + std::to_string((*peer)->active_calls()) +
                " pending calls");
  }
  const absl::Status joined = (*peer)->Join(absl::Seconds(60));
  NoteStatus(worker, "join returns", joined);
  // That of the other worker fails because this one's hangs.
  if (worker.rank() == 0) worker.CheckOk(joined, "join");
  worker.CheckOk((*peer)->Shutdown(), "shutdown");
}

REPRISE_SCENARIO(
    stock_orphan,
    {.description = "museum, defect 7: a refused call, a cut, and join hangs",
     .workers = 2,
     .params = {{"ours", 0}},
     .param_ranges = {{"ours", {0, 1}}},
     .body = Orphan,
     .faults =
         [](Draws, const ScenarioParams&) {
           return std::vector<std::string>{"cut w0-w1 after 500ms reset"};
         },
     .foreign_code = true});

// Defect 9: handlers, completions and timeouts share one pool of threads. When
// all of them wait in handlers for calls, no reply and no timeout reaches them.
void Nested(Worker& worker) {
  auto peer = Peer::Start(worker, KindOf(worker));
  if (!worker.CheckOk(peer.status(), "start")) return;
  const int other = 1 - worker.rank();
  const std::string request = "N" + std::to_string(worker.rank());
  std::vector<absl::StatusOr<PendingCall>> calls;
  for (int i = 0; i < 6; ++i) {
    calls.push_back((*peer)->Send(other, request, absl::Seconds(1)));
  }
  const absl::Time bound = worker.In(absl::Seconds(30));
  for (const auto& call : calls) {
    const absl::Status status =
        Await(worker, "a call with a timeout of 1 s", call, bound).status();
    worker.Check(!absl::IsAborted(status), "call-deadline",
                 "a call with a timeout of 1 s has not ended after 30 s");
  }
  JoinAndShutdown(worker, **peer);
}

REPRISE_SCENARIO(
    stock_nested,
    {.description = "museum, defect 9: handlers that call, and no timeout ends",
     .workers = 2,
     .params = {{"ours", 0}},
     .param_ranges = {{"ours", {0, 1}}},
     .body = Nested,
     .foreign_code = true});

// Defect 11: timeouts are cut to whole milliseconds, and 0 means never.
void ShortTimeout(Worker& worker) {
  auto peer = Peer::Start(worker, KindOf(worker));
  if (!worker.CheckOk(peer.status(), "start")) return;
  if (worker.rank() == 0) {
    const absl::Status status =
        Await(worker, "a call with a timeout of 0.5 ms",
              (*peer)->Send(1, "S5000", absl::Microseconds(500)),
              worker.In(absl::Seconds(1)))
            .status();
    worker.Check(absl::IsDeadlineExceeded(status), "call-deadline",
                 "a call with a timeout of 0.5 ms has not timed out after 1 s");
  }
  JoinAndShutdown(worker, **peer);
}

REPRISE_SCENARIO(
    stock_short_timeout,
    {.description = "museum, defect 11: a timeout below 1 ms is none at all",
     .workers = 2,
     .params = {{"ours", 0}},
     .param_ranges = {{"ours", {0, 1}}},
     .body = ShortTimeout,
     .foreign_code = true});

}  // namespace
}  // namespace reprise::scenarios
