// A group of PyTorch's agents and one of ours, which the parameter `rank`
// names. Whatever becomes of the others, ours reports it by its deadlines and
// never hangs.

#include <string>
#include <utility>
#include <vector>

#include "tests/stock/museum.h"

namespace reprise::scenarios {
namespace {

constexpr int kWorkers = 3;
constexpr absl::Duration kCallTimeout = absl::Seconds(5);
constexpr absl::Duration kJoinTimeout = absl::Seconds(90);
constexpr absl::Duration kMayTake = absl::Seconds(60);  // the store
// What is between a deadline and the return of what had it.
constexpr absl::Duration kMargin = absl::Seconds(1);

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

// Each of the others writes down that it is about to join, since the rule
// `barrier` sees only ours.
void NoteThatItJoins(Worker& worker) {
  NoteStatus(worker, "is about to join",
             worker.environment().store->Set("test/joins/" + worker.name(), "",
                                             worker.In(kMayTake)));
}

void CheckThatAllAreThere(Worker& worker) {
  Store& store = *worker.environment().store;
  for (int rank = 0; rank < kWorkers; ++rank) {
    if (rank == worker.rank()) continue;
    const std::string name = worker.NameOf(rank);
    worker.Check(store.TryGet("test/joins/" + name, worker.In(kMayTake)).ok(),
                 "everybody-joined", "joined, and " + name + " had not");
  }
}

void Ours(Worker& worker) {
  auto peer = Peer::Start(worker, PeerKind::kOurs);
  if (!peer.ok()) {
    NoteStatus(worker, "start fails", peer.status());
    worker.Reached("ours reports that the group does not come together");
    return;
  }
  for (const auto& [payload, call] : MakeCalls(worker, **peer)) {
    const absl::StatusOr<std::string> answer =
        Await(worker, payload, call, worker.In(kCallTimeout + kMargin));
    worker.Check(!absl::IsAborted(answer.status()), "call-deadline",
                 payload + " has not ended by its deadline");
    worker.Check(!answer.ok() || *answer == payload, "content",
                 payload + " was answered with " + answer.value_or(""));
    if (!answer.ok()) worker.Reached("a call of ours fails");
  }
  const absl::Time deadline = worker.In(kJoinTimeout);
  const absl::Status joined = (*peer)->Join(kJoinTimeout);
  NoteStatus(worker, "join returns", joined);
  worker.Check(worker.In(absl::ZeroDuration()) < deadline + kMargin,
               "join-deadline", "join returned after its deadline");
  if (joined.ok()) CheckThatAllAreThere(worker);
  worker.Reached(joined.ok() ? "ours joins" : "ours reports who did not join");
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
  NoteThatItJoins(worker);
  NoteStatus(worker, "join returns", (*peer)->Join(absl::ZeroDuration()));
  worker.CheckOk((*peer)->Shutdown(), "shutdown");
}

void Mixed(Worker& worker) {
  if (worker.rank() == worker.param("rank")) {
    Ours(worker);
  } else {
    Theirs(worker);
  }
}

std::string NameOf(int64_t rank) { return "w" + std::to_string(rank); }

std::string DrawTime(Draws& random, DrawName name, int64_t longest_us) {
  return std::to_string(random.Between(name, 0, longest_us)) + "us";
}

std::string DrawFault(Draws random, int64_t our_rank) {
  const int64_t one = random.Below("one", kWorkers);
  const int64_t other = (one + random.Between("other", 1, 2)) % kWorkers;
  const int64_t theirs = (our_rank + random.Between("theirs", 1, 2)) % kWorkers;
  const std::string begin = DrawTime(random, "begin", 8000);
  switch (random.Below("kind", 8)) {
    case 0:
    case 1:
    case 2:
      return "cut " + NameOf(one) + "-" + NameOf(other) + " when " +
             NameOf(random.Below("whose", kWorkers)) + " net.deliver#" +
             std::to_string(random.Between("frame", 1, 80)) + " reset";
    case 3: {
      constexpr const char* kDeaths[] = {"crash ", "kill ", "power "};
      return kDeaths[random.Below("death", 3)] + NameOf(theirs) + " after " +
             begin;
    }
    case 4:
      return "hold " + NameOf(one) + "-" + NameOf(other) + " after " + begin +
             " for " + DrawTime(random, "hold", 2000000);
    case 5:
      return "pause " + NameOf(theirs) + " after " + begin + " for " +
             DrawTime(random, "pause", 20000000);
    case 6:
      return "store-delay " + DrawTime(random, "delay", 50000) + " after " +
             begin + " for 1s";
    default:
      return "store-slow-keys " + DrawTime(random, "slow", 500000) + " after " +
             begin + " for 2s";
  }
}

std::vector<std::string> Plan(Draws random, const ScenarioParams& params) {
  const int64_t our_rank = params.find("rank")->second;
  std::vector<std::string> faults;
  // Whatever state the others are in, somebody kills them in the end.
  for (int64_t rank = 0; rank < kWorkers; ++rank) {
    if (rank != our_rank) {
      faults.push_back("kill " + NameOf(rank) + " after 400s");
    }
  }
  const int64_t number = random.Below("number", 4);
  for (int64_t i = 0; i < number; ++i) {
    faults.push_back(DrawFault(random.Part("fault"), our_rank));
  }
  return faults;
}

REPRISE_SCENARIO(
    stock_mixed,
    {.description = "PyTorch's agents and one of ours in a group, with cuts, "
                    "deaths, pauses and slow stores",
     .workers = kWorkers,
     .params = {{"calls", 10}, {"rank", 1}},
     .param_ranges = {{"rank", {0, kWorkers - 1}}},
     .smallest = {{"calls", 1}},
     .body = Mixed,
     .faults = Plan,
     .probes = {"ours joins", "ours reports who did not join",
                "a call of ours fails"},
     .fault_kinds = {"cut", "crash", "power", "hold", "pause", "store-delay",
                     "store-slow-keys"},
     .foreign_code = true});

}  // namespace
}  // namespace reprise::scenarios
