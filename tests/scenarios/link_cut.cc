// Every worker calls every other one again and again, through silences of the
// network. Calls fail then, within their timeout and with one of the two causes
// that a dead link may have, and afterwards work again, without a restart.
//
// `reprise worker` runs it between machines, where the link is a real one: see
// docs/workers.md.

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sim/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

class Caller {
 public:
  Caller(Worker& worker, EchoAgent& agent)
      : worker_(worker),
        agent_(agent),
        timeout_(absl::Milliseconds(worker.param("timeout_ms"))),
        works_(static_cast<size_t>(worker.world_size()), true) {}

  // Calls all the others at once.
  void CallAll() {
    struct Sent {
      int to;
      CallSpec spec;
      Future call;
    };
    std::vector<Sent> calls;
    for (int rank = 0; rank < worker_.world_size(); ++rank) {
      if (rank == worker_.rank()) continue;
      const CallSpec spec = agent_.NewCall();
      calls.push_back({rank, spec, agent_.Send(rank, spec, timeout_)});
    }
    for (const Sent& sent : calls) {
      Heard(sent.to, agent_.Await(sent.call, sent.spec));
    }
  }

  bool all_work() const {
    for (const bool works : works_) {
      if (!works) return false;
    }
    return true;
  }

 private:
  void Heard(int rank, const absl::Status& status) {
    worker_.Check(status.ok() || absl::IsUnavailable(status) ||
                      absl::IsDeadlineExceeded(status),
                  "cause", status.ToString());
    if (status.ok() == works_[rank]) return;
    works_[rank] = status.ok();
    worker_.Note(absl::StrCat(
        worker_.NameOf(rank), " ",
        status.ok() ? "works again" : "fails: " + status.ToString()));
    worker_.Reached(status.ok() ? "healed" : "failed");
  }

  Worker& worker_;
  EchoAgent& agent_;
  const absl::Duration timeout_;
  std::vector<bool> works_;
};

void LinkCut(Worker& worker) {
  auto agent =
      EchoAgent::Start(worker, worker.options(), worker.In(absl::Seconds(60)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Caller caller(worker, **agent);
  const absl::Duration every = absl::Milliseconds(worker.param("every_ms"));
  const absl::Time end =
      worker.In(absl::Milliseconds(worker.param("duration_ms")));
  while (worker.runtime().Now() < end) {
    caller.CallAll();
    worker.Sleep(every);
  }
  const absl::Time last =
      worker.In(absl::Milliseconds(worker.param("heal_ms")));
  while (!caller.all_work() && worker.runtime().Now() < last) {
    worker.Sleep(every);
    caller.CallAll();
  }
  worker.Check(caller.all_work(), "heals",
               "a link that was whole again did not carry calls again");
  (*agent)->JoinAndShutdown(absl::Seconds(60));
}

std::vector<std::string> Silences(RandomStream& random, const ScenarioParams&) {
  std::vector<std::string> faults;
  for (int64_t left = random.Between(1, 2); left > 0; --left) {
    const int64_t first = random.Between(0, 2);
    faults.push_back(absl::StrCat(
        "silence w", first, "-w", (first + random.Between(1, 2)) % 3, " after ",
        random.Between(0, 1500), "ms for ", random.Between(1, 2500), "ms"));
  }
  return faults;
}

REPRISE_SCENARIO(link_cut,
                 {.description = "calls through silences of the network",
                  .workers = 3,
                  .params = {{"duration_ms", 2000},
                             {"every_ms", 50},
                             {"heal_ms", 20'000},
                             {"timeout_ms", 1000}},
                  .body = LinkCut,
                  .faults = Silences,
                  .probes = {"failed", "healed"},
                  .fault_kinds = {"silence"},
                  .enough_seeds = 50,
                  .max_time = absl::Minutes(5),
                  .settle_time = absl::Minutes(1)});

}  // namespace
}  // namespace reprise::scenarios
