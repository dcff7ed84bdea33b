// Workers die at any moment, and come back under their names or do not, while
// the network and the store have faults too. A worker that is there must soon
// be reachable again, and a call to a worker that is gone must fail and say so.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/board.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"
#include "tests/scenarios/faults.h"
#include "tests/scenarios/swarm.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kCallTimeout = absl::Seconds(1);
constexpr int kCalls = 3;  // that must succeed, to each peer, in each phase

class Survivor {
 public:
  Survivor(Worker& worker, EchoAgent& agent, Board& board)
      : worker_(worker),
        agent_(agent),
        board_(board),
        random_(worker.random("calls")),
        patience_(absl::Milliseconds(worker.param("patience_ms"))),
        heal_time_(absl::Milliseconds(worker.param("heal_ms"))),
        calling_(absl::Milliseconds(worker.param("calling_ms"))),
        slack_(absl::Milliseconds(worker.param("slack_ms"))) {}

  void Survive() {
    if (worker_.incarnation() > 0) worker_.Reached("came back");
    board_.Enter(Stage::kCalling);
    CallAll(Stage::kCalling);
    board_.Enter(Stage::kFirstJoin);
    if (Join(/*for_shutdown=*/false, Stage::kFirstJoin)) {
      board_.Enter(Stage::kCallingAgain);
      CallAll(Stage::kCallingAgain);
      board_.Enter(Stage::kLastJoin);
      if (Join(/*for_shutdown=*/true, Stage::kLastJoin)) {
        worker_.Reached("all left together");
      }
    }
    if (agent_.Metric("agent.reconnects") > 0) worker_.Reached("reconnected");
    const absl::Status status = agent_.Shutdown(absl::Seconds(5));
    worker_.CheckOk(status, "shutdown");
  }

 private:
  struct Peer {
    int wanted;  // answers
    absl::Time last_answer;
  };
  struct Attempt {
    int to;
    Future call;
    CallSpec spec;
  };

  // Calls all peers for `calling_`, and then each until it has answered so
  // often, or is gone for too long.
  void CallAll(Stage stage) {
    const absl::Time start = worker_.runtime().Now();
    const absl::Time end = start + calling_ + patience_;
    enough_ = start + calling_;
    std::vector<Peer> peers(static_cast<size_t>(worker_.world_size()),
                            Peer{kCalls, start});
    const absl::Duration shortest =
        std::max(absl::Milliseconds(5), calling_ / 100);
    absl::Duration pause = shortest;
    while (worker_.runtime().Now() < end &&
           std::any_of(peers.begin(), peers.end(),
                       [](const Peer& peer) { return peer.wanted > 0; })) {
      if (CallOnce(peers, stage)) {
        pause = shortest;
      } else {
        pause = std::min(pause * 2, absl::Seconds(1));
        for (int rank = 0; rank < worker_.world_size(); ++rank) {
          CheckIsGone(rank, peers[static_cast<size_t>(rank)]);
        }
      }
      worker_.Sleep(DrawDuration(random_, "pause", pause));
    }
    if (std::any_of(peers.begin(), peers.end(),
                    [](const Peer& peer) { return peer.wanted > 0; })) {
      worker_.Reached("never answered");
    }
  }

  // Calls all workers that have not answered often enough, at the same time.
  // Returns whether anybody answered.
  bool CallOnce(std::vector<Peer>& peers, Stage stage) {
    const bool is_enough = worker_.runtime().Now() >= enough_;
    std::vector<Attempt> attempts;
    for (int rank = 0; rank < worker_.world_size(); ++rank) {
      if (peers[static_cast<size_t>(rank)].wanted <= 0) continue;
      CallSpec spec = agent_.NewCall();
      if (random_.OneIn("has tensors", 2))
        spec.tensors = {random_.Between("bytes", 1, 4096)};
      if (!is_enough && random_.OneIn("large", 8)) {
        spec.tensors.push_back(random_.Between("large bytes", 1, 1 << 18));
      }
      if (random_.OneIn("works", 3)) {
        spec.work = DrawDuration(random_, "work", absl::Milliseconds(5));
      }
      attempts.push_back({rank, agent_.Send(rank, spec), std::move(spec)});
    }
    const absl::Time latest = worker_.In(kCallTimeout + slack_);
    bool any = false;
    for (const Attempt& attempt : attempts) {
      const bool done = attempt.call.Wait(latest);
      worker_.Check(done, "on-time",
                    "a call is open " + absl::FormatDuration(slack_) +
                        " after its deadline");
      const absl::Status status = agent_.Await(attempt.call, attempt.spec);
      if (status.ok()) {
        any = true;
        Peer& peer = peers[static_cast<size_t>(attempt.to)];
        if (is_enough) --peer.wanted;
        peer.last_answer = worker_.runtime().Now();
        if (failed_before_) worker_.Reached("answered after a failure");
      } else {
        failed_before_ = true;
        last_error_ = status.ToString();
        worker_.Check(absl::IsUnavailable(status) ||
                          absl::IsDeadlineExceeded(status) ||
                          IsShortOfMemory(status),
                      "call", status.ToString());
        if (stage == Stage::kCallingAgain) worker_.Reached("failed after join");
      }
    }
    return any;
  }

  // A worker that does not answer for so long must be gone.
  void CheckIsGone(int rank, Peer& peer) {
    if (peer.wanted <= 0) return;
    if (board_.IsGone(rank)) {
      peer.wanted = 0;
      return;
    }
    const absl::Time since = worker_.In(-heal_time_);
    if (peer.last_answer > since) return;
    worker_.Check(!board_.IsThere(rank, Stage::kCalling, since), "heals",
                  worker_.NameOf(rank) + " has been there for " +
                      absl::FormatDuration(heal_time_) +
                      " and cannot be called; last: " + last_error_);
  }

  bool Join(bool for_shutdown, Stage stage) {
    const absl::Time deadline = worker_.In(patience_ + heal_time_);
    const absl::Status status = for_shutdown
                                    ? agent_.agent().JoinForShutdown(deadline)
                                    : agent_.agent().Join(deadline);
    const absl::Duration late = worker_.runtime().Now() - deadline;
    worker_.Check(
        late <= slack_, "in-time",
        "join returned " + absl::FormatDuration(late) + " after its deadline");
    if (status.ok()) {
      const absl::Duration took =
          worker_.runtime().Now() - board_.AllReached(stage);
      worker_.Check(took <= heal_time_, "heals",
                    "a join ended " + absl::FormatDuration(took) +
                        " after the last had come");
      return true;
    }
    worker_.Reached("join ran out of time");
    worker_.Check(absl::IsDeadlineExceeded(status), "join", status.ToString());
    worker_.Check(!board_.AllAreThere(stage, deadline - heal_time_), "heals",
                  "all have been in the join for " +
                      absl::FormatDuration(heal_time_) +
                      ", and yet: " + status.ToString());
    return false;
  }

  Worker& worker_;
  EchoAgent& agent_;
  Board& board_;
  Draws random_;
  const absl::Duration patience_;
  const absl::Duration heal_time_;
  const absl::Duration calling_;
  const absl::Duration slack_;
  absl::Time enough_;  // from then on, answers count
  bool failed_before_ = false;
  std::string last_error_;
};

void PeerDies(Worker& worker) {
  Board board(worker);
  AgentOptions options = worker.options();
  options.rpc_timeout = kCallTimeout;
  options.connect_timeout = absl::Seconds(2);
  options.store_timeout = absl::Seconds(2);
  const absl::Duration slack = absl::Milliseconds(worker.param("slack_ms"));
  const absl::Duration heal_time = absl::Milliseconds(worker.param("heal_ms"));
  const absl::Time deadline =
      worker.In(absl::Milliseconds(worker.param("patience_ms")));
  auto agent = EchoAgent::Start(worker, options, deadline);
  const absl::Duration late = worker.runtime().Now() - deadline;
  worker.Check(
      late <= slack, "in-time",
      "start returned " + absl::FormatDuration(late) + " after its deadline");
  if (!agent.ok()) {
    worker.Reached("could not start");
    worker.Check(absl::IsDeadlineExceeded(agent.status()), "start",
                 agent.status().ToString());
    worker.Check(!board.AllAreThere(Stage::kStarting, deadline - heal_time),
                 "heals",
                 "all have been there for " + absl::FormatDuration(heal_time) +
                     ", and yet: " + agent.status().ToString());
    return;
  }
  Survivor(worker, **agent, board).Survive();
}

REPRISE_SCENARIO(
    peer_dies,
    {.description = "workers die in every phase, and come back or do not",
     .workers = 3,
     // How long to wait for a worker that may never come; how soon a worker
     // that is there must be reachable; and how late an error may be, since a
     // worker may be paused.
     .params = {{"patience_ms", 20000},
                {"heal_ms", 8000},
                {"slack_ms", 3000},
                {"calling_ms", 0}},
     .body = PeerDies,
     .faults = DrawFaults,
     .probes = {"came back", "all left together", "reconnected",
                "never answered", "answered after a failure",
                "failed after join", "join ran out of time", "could not start"},
     .fault_kinds = {"crash", "kill", "power", "pause", "cut", "refuse", "hold",
                     "swizzle", "drop-connect", "store-outage", "store-delay"},
     .enough_seeds = 200,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(3),
     .process_params = {{"patience_ms", 8000}, {"heal_ms", 5000}},
     .process_faults = DrawProcessFaults});

REPRISE_SCENARIO(
    swarm,
    {.description = "many faults of many kinds at once, and then all heals",
     .workers = 3,
     .params = {{"storm_ms", 6000},
                {"calling_ms", 6000},
                {"patience_ms", 20000},
                {"heal_ms", 16000},
                {"slack_ms", 4000}},
     .smallest = {{"calling_ms", 0}},
     .body = PeerDies,
     .faults =
         [](Draws random, const ScenarioParams& params) {
           return DrawSwarm(std::move(random), params, 3, /*clocks=*/true);
         },
     .probes = {"came back", "all left together", "reconnected",
                "answered after a failure"},
     .fault_kinds = {"crash", "kill", "power", "pause", "slow", "no-memory",
                     "clock-jump", "clock-drift", "cut", "refuse", "hold",
                     "delay", "swizzle", "drop-connect", "store-outage",
                     "store-delay", "store-slow-keys", "store-lost-reply"},
     .enough_seeds = 300,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(3)});

}  // namespace
}  // namespace reprise::scenarios
