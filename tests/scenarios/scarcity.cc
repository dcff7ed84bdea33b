// Workers run out of file descriptors, of threads, or of memory for tensors,
// while connections break, listeners fail and sometimes while they start. Then
// there is enough of everything again. Rules, besides those of echo_agent.h:
//
//  start     an agent for which there is too little does not start, and says so
//            by RESOURCE_EXHAUSTED or UNAVAILABLE
//  call      a call fails by one of these two, or at its timeout by
//            DEADLINE_EXCEEDED
//  in-time   no call ends much later than its timeout
//  heals     once there is enough, each worker starts within the parameter
//            `heal_ms`, and can call each other one

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr int kWorkers = 3;
constexpr absl::Duration kTimeout = absl::Seconds(1);
constexpr absl::Duration kBetweenTries = absl::Milliseconds(50);

class Pauper {
 public:
  explicit Pauper(Worker& worker)
      : worker_(worker),
        random_(worker.random("calls")),
        plenty_(worker.In(absl::Milliseconds(worker.param("storm_ms")))),
        healed_(plenty_ + absl::Milliseconds(worker.param("heal_ms"))) {}

  void Live() {
    if (!Start()) return;
    while (worker_.runtime().Now() < plenty_) {
      CallAround(random_.Part("calls"));
      if (random_.OneIn("pauses", 2)) {
        worker_.Sleep(DrawDuration(random_, "pause", absl::Milliseconds(200)));
      }
    }
    for (int rank = 0; rank < kWorkers; ++rank) CallUntilItAnswers(rank);
    agent_->JoinAndShutdown(absl::Minutes(5));
  }

 private:
  bool Start() {
    AgentOptions options = worker_.options();
    options.rpc_timeout = kTimeout;
    options.connect_timeout = kTimeout;
    options.store_timeout = absl::Seconds(2);
    for (int life = 0;; ++life) {
      auto agent = EchoAgent::Start(worker_, options,
                                    worker_.In(absl::Seconds(20)), life);
      if (agent.ok()) {
        agent_ = *std::move(agent);
        return true;
      }
      worker_.Reached("could not start");
      const absl::Status status = agent.status();
      if (!worker_.Check(
              absl::IsResourceExhausted(status) || absl::IsUnavailable(status),
              "start", status.ToString()) ||
          !worker_.Check(worker_.runtime().Now() < healed_, "heals",
                         "cannot start: " + status.ToString())) {
        return false;
      }
      worker_.Sleep(kBetweenTries);
    }
  }

  void CallAround(Draws random) {
    std::vector<std::pair<Future, CallSpec>> calls;
    const absl::Time begin = worker_.runtime().Now();
    for (int64_t left = random.Between("calls", 1, 6); left > 0; --left) {
      CallSpec spec = agent_->NewCall();
      spec.work = DrawDuration(random, "work", absl::Milliseconds(100));
      if (random.OneIn("has tensors", 2)) {
        spec.tensors = {random.Between("bytes", 0, 20'000)};
      }
      // Its handler waits for another handler.
      if (random.OneIn("nested", 4)) {
        spec.via = {static_cast<int>(random.Below("via", kWorkers))};
        spec.via_timeout = kTimeout;
      }
      const auto to = static_cast<int>(random.Below("to", kWorkers));
      Future call = agent_->Send(to, spec);
      calls.emplace_back(std::move(call), std::move(spec));
    }
    for (const auto& [call, spec] : calls) {
      const absl::Status status = agent_->Await(call, spec);
      worker_.Check(
          worker_.runtime().Now() - begin <= kTimeout + absl::Seconds(1),
          "in-time", "a call ended late: " + status.ToString());
      if (status.ok()) continue;
      if (absl::IsResourceExhausted(status)) worker_.Reached("exhausted");
      if (absl::IsUnavailable(status)) worker_.Reached("unavailable");
      worker_.Check(absl::IsResourceExhausted(status) ||
                        absl::IsUnavailable(status) ||
                        absl::IsDeadlineExceeded(status),
                    "call", status.ToString());
    }
  }

  void CallUntilItAnswers(int rank) {
    absl::Status status;
    do {
      CallSpec spec = agent_->NewCall();
      spec.tensors = {1000};
      status = agent_->Call(rank, spec);
      if (status.ok()) return;
      worker_.Sleep(kBetweenTries);
    } while (worker_.runtime().Now() < healed_);
    worker_.Check(
        false, "heals",
        worker_.NameOf(rank) + " cannot be called; last: " + status.ToString());
  }

  Worker& worker_;
  Draws random_;
  const absl::Time plenty_;  // from then on
  const absl::Time healed_;
  std::unique_ptr<EchoAgent> agent_;
};

void Scarcity(Worker& worker) { Pauper(worker).Live(); }

std::string Ms(int64_t ms) { return std::to_string(ms) + "ms"; }

class ScarcityDrawer {
 public:
  explicit ScarcityDrawer(int64_t storm_ms) : storm_ms_(storm_ms) {}

  // Of some kinds only, so that one does not always hide another.
  std::vector<std::string> Draw(Draws random) {
    constexpr std::array<std::string_view, 3> kKinds = {
        "no-descriptors", "no-threads", "no-tensor-memory"};
    for (const std::string_view kind : kKinds) {
      if (random.OneIn("is on", 2)) {
        AddShortage(std::string(kind), random.Part("shortage"));
      }
    }
    return std::move(lines_);
  }

 private:
  // A shortage, and what makes its worker need the thing.
  void AddShortage(const std::string& kind, Draws random) {
    const int64_t who = random.Between("who", 0, kWorkers - 1);
    const std::string worker = "w" + std::to_string(who);
    const bool at_start = random.OneIn("at the start", 4);
    const int64_t begin =
        at_start ? 0 : random.Between("begin", 1, storm_ms_ / 2);
    const int64_t length = random.Between("length", 1, storm_ms_ / 2);
    if (kind == "no-descriptors" && random.OneIn("as its listener fails", 3)) {
      lines_.push_back("drop-connect " + worker + " after " + Ms(begin + 1));
      lines_.push_back(kind + " " + worker + " when " + worker +
                       " listener.failed#1 for " + Ms(length));
      return;
    }
    lines_.push_back(kind + " " + worker + " after " + Ms(begin) + " for " +
                     Ms(length));
    for (int64_t left = random.Between("needs", 0, 3); left > 0; --left) {
      const std::string when =
          " after " + Ms(begin + random.Between("after", 1, length));
      if (random.OneIn("its listener", 3)) {
        lines_.push_back("drop-connect " + worker + when);
        continue;
      }
      const std::string other =
          "w" + std::to_string((who + random.Between("other", 1, 2)) % 3);
      lines_.push_back("cut " + worker + "-" + other + when +
                       (random.OneIn("reset", 2) ? " reset" : " eof"));
    }
  }

  const int64_t storm_ms_;
  std::vector<std::string> lines_;
};

REPRISE_SCENARIO(
    scarcity,
    {.description = "descriptors, threads or memory run out for a while",
     .workers = kWorkers,
     .params = {{"storm_ms", 4000}, {"heal_ms", 8000}},
     .body = Scarcity,
     .faults =
         [](Draws random, const ScenarioParams& params) {
           return ScarcityDrawer(params.find("storm_ms")->second)
               .Draw(std::move(random));
         },
     .probes = {"could not start", "exhausted", "unavailable"},
     .fault_kinds = {"no-descriptors", "no-threads", "no-tensor-memory", "cut",
                     "drop-connect"},
     .enough_seeds = 100,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(3)});

}  // namespace
}  // namespace reprise::scenarios
