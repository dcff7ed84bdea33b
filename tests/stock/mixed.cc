// A group of PyTorch's agents and ours: w1 is ours. Whatever becomes of the
// others, w1 reports it by its deadlines and never hangs.

#include <string>
#include <utility>
#include <vector>

#include "tests/stock/museum.h"

namespace reprise::scenarios {
namespace {

constexpr int kOurRank = 1;
constexpr absl::Duration kCallTimeout = absl::Seconds(5);
constexpr absl::Duration kJoinTimeout = absl::Seconds(90);
// What is between a deadline and the return of what had it.
constexpr absl::Duration kMargin = absl::Seconds(1);

// Ends what the other agents do, whatever state they are in: somebody kills
// them in the end.
constexpr const char* kLastResort[] = {"kill w0 after 400s",
                                       "kill w2 after 400s"};

std::vector<std::pair<std::string, absl::StatusOr<PendingCall>>> MakeCalls(
    Worker& worker, Peer& peer) {
  Draws random = worker.random("calls");
  std::vector<std::pair<std::string, absl::StatusOr<PendingCall>>> calls;
  for (int i = 0; i < worker.param("calls"); ++i) {
    const int64_t step = random.Between("peer", 1, worker.world_size() - 1);
    const int to =
        (worker.rank() + static_cast<int>(step)) % worker.world_size();
    const std::string payload =
        random.OneIn("works", 4) ? "S3" : "E" + std::to_string(i);
    calls.emplace_back(payload, peer.Send(to, payload, kCallTimeout));
    if (calls.back().second.ok() && random.OneIn("waits", 3)) {
      (*calls.back().second)(worker.In(2 * kCallTimeout))
          .status()
          .IgnoreError();
    }
  }
  return calls;
}

void Ours(Worker& worker) {
  auto peer = Peer::Start(worker, PeerKind::kOurs);
  if (!peer.ok()) {
    NoteStatus(worker, "start fails", peer.status());
    worker.Reached("w1 reports that the group does not come together");
    return;
  }
  for (const auto& [payload, call] : MakeCalls(worker, **peer)) {
    const absl::StatusOr<std::string> answer =
        Await(worker, payload, call, worker.In(kCallTimeout + kMargin));
    worker.Check(!absl::IsAborted(answer.status()), "call-deadline",
                 payload + " has not ended by its deadline");
    worker.Check(!answer.ok() || *answer == payload, "content",
                 payload + " was answered with " + answer.value_or(""));
    if (!answer.ok()) worker.Reached("a call of w1 fails");
  }
  const absl::Time deadline = worker.In(kJoinTimeout);
  const absl::Status joined = (*peer)->Join(kJoinTimeout);
  NoteStatus(worker, "join returns", joined);
  worker.Check(worker.In(absl::ZeroDuration()) < deadline + kMargin,
               "join-deadline", "join returned after its deadline");
  worker.Reached(joined.ok() ? "w1 joins" : "w1 reports who did not join");
  worker.CheckOk((*peer)->Shutdown(), "shutdown");
}

void Theirs(Worker& worker) {
  auto peer = Peer::Start(worker, PeerKind::kStock);
  if (!peer.ok()) return NoteStatus(worker, "start fails", peer.status());
  for (const auto& [payload, call] : MakeCalls(worker, **peer)) {
    if (!call.ok()) {
      NoteStatus(worker, "send", call.status());
      worker.Reached("a send of PyTorch's throws");
      continue;
    }
    const absl::StatusOr<std::string> answer =
        Await(worker, payload, call, worker.In(absl::Hours(1)));
    worker.Check(!answer.ok() || *answer == payload, "content",
                 payload + " was answered with " + answer.value_or(""));
  }
  NoteStatus(worker, "join returns", (*peer)->Join(absl::ZeroDuration()));
  worker.CheckOk((*peer)->Shutdown(), "shutdown");
}

void Mixed(Worker& worker) {
  if (worker.rank() == kOurRank) {
    Ours(worker);
  } else {
    Theirs(worker);
  }
}

std::string DrawTime(Draws& random, DrawName name, int64_t longest_us) {
  return std::to_string(random.Between(name, 0, longest_us)) + "us";
}

std::string DrawFault(Draws random) {
  const std::string worker = "w" + std::to_string(random.Below("worker", 3));
  const int64_t other = 2 * random.Below("other", 2);
  const std::string when = " when " + worker + " net.deliver#" +
                           std::to_string(random.Between("frame", 1, 80)) +
                           " reset";
  const std::string begin = DrawTime(random, "begin", 8000);
  switch (random.Below("kind", 6)) {
    case 0:
    case 1:
      return "cut w1-w" + std::to_string(other) + when;
    case 2:
      return "cut w0-w2" + when;
    case 3:
      return "crash w" + std::to_string(other) + " after " + begin;
    case 4:
      return "store-delay " + DrawTime(random, "delay", 50000) + " after " +
             begin + " for 1s";
    default:
      return "store-slow-keys " + DrawTime(random, "slow", 500000) + " after " +
             begin + " for 2s";
  }
}

std::vector<std::string> Plan(Draws random, const ScenarioParams&) {
  std::vector<std::string> faults(std::begin(kLastResort),
                                  std::end(kLastResort));
  const int64_t number = random.Below("number", 4);
  for (int64_t i = 0; i < number; ++i) {
    faults.push_back(DrawFault(random.Part("fault")));
  }
  return faults;
}

REPRISE_SCENARIO(
    stock_mixed,
    {.description = "PyTorch's agent, ours and PyTorch's in one group, with "
                    "cuts, crashes and slow stores",
     .workers = 3,
     .params = {{"calls", 10}},
     .smallest = {{"calls", 1}},
     .body = Mixed,
     .faults = Plan,
     .probes = {"w1 joins", "w1 reports who did not join",
                "a call of w1 fails"},
     .fault_kinds = {"cut", "crash", "store-delay", "store-slow-keys"},
     .foreign_code = true});

}  // namespace
}  // namespace reprise::scenarios
