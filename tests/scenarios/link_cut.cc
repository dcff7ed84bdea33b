// Every worker calls every other worker again and again while links between
// them are held. The calls have very long timeouts. Over a link that carries
// nothing they fail with UNAVAILABLE within the keepalive bound, and when the
// link carries frames again calls succeed again, without a restart.
//
// `reprise worker` runs it between machines, where the link is a real one: see
// docs/workers.md.

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kNever = absl::Minutes(10);

class Caller {
 public:
  // `longest`: after what time a call over a dead link has failed.
  Caller(Worker& worker, EchoAgent& agent, absl::Duration longest)
      : worker_(worker),
        agent_(agent),
        longest_(longest),
        works_(static_cast<size_t>(worker.world_size()), true) {}

  // Calls all the others at once. False: a call was not over in time.
  bool CallAll() {
    struct Sent {
      int to;
      CallSpec spec;
      Future call;
    };
    std::vector<Sent> calls;
    const absl::Time start = worker_.runtime().Now();
    for (int rank = 0; rank < worker_.world_size(); ++rank) {
      if (rank == worker_.rank()) continue;
      const CallSpec spec = agent_.NewCall();
      calls.push_back({rank, spec, agent_.Send(rank, spec, kNever)});
    }
    for (const Sent& sent : calls) {
      if (!sent.call.Wait(start + longest_)) {
        worker_.Check(
            false, "bound",
            absl::StrCat("a call to ", worker_.NameOf(sent.to),
                         " is open after ", absl::FormatDuration(longest_)));
        return false;
      }
      // The time is taken afterwards: of two arguments, either may come first.
      const absl::Status status = agent_.Await(sent.call, sent.spec);
      Heard(sent.to, status, worker_.runtime().Now() - start);
    }
    return true;
  }

  bool all_work() const {
    return std::all_of(works_.begin(), works_.end(),
                       [](bool it) { return it; });
  }

 private:
  void Heard(int rank, const absl::Status& status, absl::Duration after) {
    worker_.Check(status.ok() || absl::IsUnavailable(status), "cause",
                  status.ToString());
    if (status.ok() == works_[rank]) return;
    works_[rank] = status.ok();
    worker_.Note(absl::StrCat(
        worker_.NameOf(rank), " ",
        status.ok() ? "works again"
                    : absl::StrCat("fails after ", absl::FormatDuration(after),
                                   ": ", status.ToString())));
    worker_.Reached(status.ok() ? "healed" : "failed");
  }

  Worker& worker_;
  EchoAgent& agent_;
  const absl::Duration longest_;
  std::vector<bool> works_;
};

void LinkCut(Worker& worker) {
  const auto param = [&](const char* name) {
    return absl::Milliseconds(worker.param(name));
  };
  AgentOptions options = worker.options();
  options.keepalive_interval = param("interval_ms");
  options.keepalive_bound = param("bound_ms");
  options.connect_timeout = param("bound_ms");
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Seconds(60)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  // A tenth of the interval is the keepalive's own slack.
  Caller caller(worker, **agent,
                options.keepalive_bound + options.keepalive_interval / 10 +
                    param("slack_ms"));
  const absl::Time end = worker.In(param("duration_ms"));
  bool in_time = true;
  while (in_time && worker.runtime().Now() < end) {
    in_time = caller.CallAll();
    worker.Sleep(param("every_ms"));
  }
  const absl::Time last = worker.In(param("heal_ms"));
  while (in_time && !caller.all_work() && worker.runtime().Now() < last) {
    worker.Sleep(param("every_ms"));
    in_time = caller.CallAll();
  }
  worker.Check(!in_time || caller.all_work(), "heals",
               "a link that was whole again did not carry calls again");
  (*agent)->JoinAndShutdown(absl::Seconds(60));
}

std::vector<std::string> Holds(Draws random, const ScenarioParams&) {
  std::vector<std::string> faults;
  for (int64_t left = random.Between("holds", 1, 2); left > 0; --left) {
    const int64_t first = random.Between("first", 0, 2);
    const std::string span =
        absl::StrCat(" after ", random.Between("at", 0, 3000), "ms for ",
                     random.Between("length", 1, 4000), "ms");
    if (random.OneIn("all links", 4)) {
      faults.push_back(absl::StrCat("swizzle w", first, span));
      continue;
    }
    faults.push_back(
        absl::StrCat("hold w", first, random.OneIn("one way", 3) ? ">w" : "-w",
                     (first + random.Between("second", 1, 2)) % 3, span));
  }
  return faults;
}

REPRISE_SCENARIO(
    link_cut,
    {.description = "calls through links that carry nothing for a while",
     .workers = 3,
     .params = {{"bound_ms", 1000},
                {"duration_ms", 4000},
                {"every_ms", 50},
                {"heal_ms", 20'000},
                {"interval_ms", 300},
                {"slack_ms", 100}},
     .body = LinkCut,
     .faults = Holds,
     .probes = {"failed", "healed"},
     .fault_kinds = {"hold", "swizzle"},
     .enough_seeds = 50,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(1),
     // A process that waits for a core must not pass for a dead link.
     .process_params = {
         {"bound_ms", 6000}, {"interval_ms", 2000}, {"slack_ms", 5000}}});

}  // namespace
}  // namespace reprise::scenarios
