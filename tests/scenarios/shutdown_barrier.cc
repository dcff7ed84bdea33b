// A group leaves: some workers come late, some still have calls running, and
// sometimes a worker never comes. Then all others get an error within the
// deadline and shut down alone.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/board.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kLongestCallback = absl::Milliseconds(50);

class Leaver {
 public:
  Leaver(Worker& worker, EchoAgent& agent, Board& board)
      : worker_(worker),
        agent_(agent),
        board_(board),
        random_(worker.random("leave")),
        join_timeout_(absl::Milliseconds(worker.param("join_ms"))),
        longest_work_(join_timeout_ / 6),
        slack_(absl::Milliseconds(worker.param("slack_ms"))) {}

  void Leave() {
    board_.Enter(Stage::kCalling);
    StartCalls();
    ComeLate();
    if (StillRunning() > 0) worker_.Reached("came with calls running");
    board_.Enter(Stage::kLastJoin);
    const absl::Time deadline = worker_.In(join_timeout_);
    const absl::Status joined = agent_.agent().JoinForShutdown(deadline);
    CheckInTime("join", deadline);
    if (joined.ok()) {
      worker_.Reached("joined");
      CheckAllIsQuiet();
    } else {
      CheckNobodyWasThere(joined, deadline);
      // There is no worker to wait for, so it leaves in the middle of its work.
      if (random_.OneIn("leaves in the middle", 2)) StartCalls();
    }
    ShutDown();
    CheckCalls();
    CheckRefuses();
  }

 private:
  // Nothing waits for these calls.
  void StartCalls() {
    for (int64_t left = random_.Between("calls", 0, 6); left > 0; --left) {
      CallSpec spec = agent_.NewCall();
      spec.work = DrawDuration(random_, "work", longest_work_);
      if (random_.OneIn("has tensors", 2))
        spec.tensors = {random_.Between("bytes", 0, 1024)};
      const auto to = static_cast<int>(
          random_.Below("peer", static_cast<uint64_t>(worker_.world_size())));
      Future call = agent_.Send(to, spec);
      if (random_.OneIn("has a callback", 2)) {
        const absl::Duration takes =
            DrawDuration(random_, "callback", kLongestCallback);
        agent_.Then(call, [this, takes](const Future::Result&) {
          worker_.Sleep(takes);
        });
      }
      calls_.emplace_back(std::move(call), std::move(spec));
    }
  }

  void ComeLate() {
    if (random_.OneIn("comes too late", 12)) {
      worker_.Reached("came when the others were gone");
      worker_.Sleep(join_timeout_ * 2);
    } else if (random_.OneIn("comes late", 2)) {
      worker_.Sleep(DrawDuration(random_, "late", join_timeout_ / 2));
    }
  }

  size_t StillRunning() const {
    return static_cast<size_t>(
        std::count_if(calls_.begin(), calls_.end(),
                      [](const auto& entry) { return !entry.first.done(); }));
  }

  void CheckInTime(std::string_view what, absl::Time deadline) {
    const absl::Duration late = worker_.runtime().Now() - deadline;
    worker_.Check(late <= slack_, "in-time",
                  std::string(what) + " returned " +
                      absl::FormatDuration(late) + " after its deadline");
  }

  void CheckAllIsQuiet() {
    worker_.Check(StillRunning() == 0, "quiet",
                  std::to_string(StillRunning()) +
                      " calls still run when the join is over");
    for (const char* metric :
         {"agent.client_active_calls", "agent.server_active_calls",
          "agent.server_active_async_calls"}) {
      const int64_t left = agent_.Metric(metric);
      worker_.Check(left == 0, "quiet",
                    std::string(metric) + " is " + std::to_string(left) +
                        " when the join is over");
    }
  }

  // The others may have been too late, or run calls for too long, or given up.
  void CheckNobodyWasThere(const absl::Status& joined, absl::Time deadline) {
    worker_.Reached("join ran out of time");
    worker_.Check(absl::IsDeadlineExceeded(joined), "join", joined.ToString());
    const std::string text(joined.message());
    worker_.Check(text.find("missing: w") != text.npos ||
                      text.find(" itself has ") != text.npos,
                  "join", "it names nobody who is missing: " + text);
    const absl::Duration enough = longest_work_ * 2 + absl::Seconds(2);
    worker_.Check(!board_.AllAreThere(Stage::kLastJoin, deadline - enough),
                  "join",
                  "all have been there for " + absl::FormatDuration(enough) +
                      ", and yet: " + text);
  }

  void ShutDown() {
    absl::Duration patience = absl::ZeroDuration();
    if (random_.OneIn("patient", 2)) {
      patience = DrawDuration(random_, "patience", longest_work_ / 4);
    }
    absl::Duration took;
    const absl::Status status = agent_.Shutdown(patience, &took);
    if (absl::IsDeadlineExceeded(status)) {
      worker_.Reached("shut down with handlers running");
    } else {
      worker_.CheckOk(status, "shutdown");
    }
    // A shutdown without patience is given a second.
    if (patience == absl::ZeroDuration()) patience = absl::Seconds(1);
    worker_.Check(took <= patience + slack_, "in-time",
                  "the shutdown took " + absl::FormatDuration(took) +
                      ", and had " + absl::FormatDuration(patience));
    worker_.CheckOk(agent_.agent().Shutdown(worker_.In(absl::ZeroDuration())),
                    "a shutdown after the shutdown");
  }

  void CheckCalls() {
    for (const auto& [call, spec] : calls_) {
      worker_.Check(call.done(), "exactly-once",
                    "a call is open after the shutdown");
      const absl::Status status = agent_.Await(call, spec);
      worker_.Check(status.ok() || absl::IsUnavailable(status) ||
                        absl::IsCancelled(status),
                    "call", status.ToString());
      if (absl::IsCancelled(status)) {
        worker_.Reached("shut down with calls running");
      }
    }
  }

  void CheckRefuses() {
    const absl::Status call =
        agent_.Send(worker_.rank(), agent_.NewCall()).status();
    worker_.Check(absl::IsFailedPrecondition(call), "refused",
                  "a call after the shutdown: " + call.ToString());
    const absl::Status join = agent_.agent().Join(worker_.In(absl::Seconds(1)));
    worker_.Check(absl::IsFailedPrecondition(join), "refused",
                  "a join after the shutdown: " + join.ToString());
  }

  Worker& worker_;
  EchoAgent& agent_;
  Board& board_;
  Draws random_;
  const absl::Duration join_timeout_;
  const absl::Duration longest_work_;
  const absl::Duration slack_;
  std::vector<std::pair<Future, CallSpec>> calls_;
};

void ShutdownBarrier(Worker& worker) {
  Board board(worker);
  AgentOptions options = worker.options();
  options.rpc_timeout = absl::ZeroDuration();
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Seconds(30)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Leaver(worker, **agent, board).Leave();
}

// In a third of the runs a worker dies and never comes. In some others a worker
// does not know whether the store has done what it asked for.
std::vector<std::string> DrawShutdownFaults(Draws random,
                                            const ScenarioParams& params) {
  if (!random.OneIn("dies", 3)) {
    if (!random.OneIn("in doubt of the store", 2)) return {};
    const std::string worker = "w" + std::to_string(random.Below("doubter", 4));
    return {"store-lost-reply " + worker + " when " + worker + " store#" +
            std::to_string(random.Between("operation", 1, 60)) +
            " for 1us reset"};
  }
  const std::string victim = "w" + std::to_string(random.Below("victim", 4));
  if (random.OneIn("in the barrier", 2)) {
    return {"crash " + victim + " when " + victim + " barrier.entered#" +
            std::to_string(random.Between("barrier", 1, 3))};
  }
  // After the start, which needs all of them.
  const int64_t join_ms = params.find("join_ms")->second;
  return {"crash " + victim + " after " +
          std::to_string(random.Between("at", join_ms / 5, join_ms / 2)) +
          "ms"};
}

REPRISE_SCENARIO(
    shutdown_barrier,
    {.description = "leaving together: late, busy, or without one that died",
     .workers = 4,
     .params = {{"join_ms", 10000}, {"slack_ms", 100}},
     .body = ShutdownBarrier,
     .faults = DrawShutdownFaults,
     .probes = {"joined", "join ran out of time", "came with calls running",
                "came when the others were gone",
                "shut down with handlers running",
                "shut down with calls running"},
     .fault_kinds = {"crash", "store-lost-reply"},
     .enough_seeds = 50,
     .max_time = absl::Minutes(2),
     .settle_time = absl::Seconds(60),
     .process_params = {{"join_ms", 3000}, {"slack_ms", 2000}}});

}  // namespace
}  // namespace reprise::scenarios
