// Two workers have the same name and id in a static group of two. These twins
// and the third worker, which is the other member, start again and again over
// one store, with little patience now and then, live for a while, and shut down
// without a word. Rules, besides those of echo_agent.h:
//
//  twin   the twins never live at the same time
//  start  a worker fails to start only because its twin lives, or because it
//         runs out of time

#include <memory>
#include <string>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"
#include "tests/scenarios/faults.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kAccess = absl::Seconds(5);

class Twin {
 public:
  explicit Twin(Worker& worker)
      : worker_(worker),
        store_(worker.environment().store),
        random_(worker.random("twins")),
        me_(worker.name() + "/" + std::to_string(worker.incarnation())) {}

  void Run() {
    AgentOptions options = worker_.options();
    options.world_size = 2;
    options.id = worker_.rank() % 2;
    options.name = worker_.NameOf(static_cast<int>(options.id));
    const absl::Time end =
        worker_.In(absl::Seconds(worker_.param("active_seconds")));
    for (int start = 0; worker_.runtime().Now() < end; ++start) {
      // Accesses that have run out of time take effect later.
      options.store_timeout =
          absl::Milliseconds(random_.Between("store timeout", 20, 2000));
      const absl::Duration patience =
          DrawDuration(random_, "patience",
                       absl::Seconds(random_.OneIn("impatient", 2) ? 2 : 10));
      auto agent =
          EchoAgent::Start(worker_, options, worker_.In(patience), start);
      if (agent.ok()) {
        Live(options, **agent);
      } else if (absl::IsAlreadyExists(agent.status())) {
        worker_.Reached("was refused");
      } else if (absl::IsDeadlineExceeded(agent.status())) {
        worker_.Reached("gave up");
      } else {
        worker_.CheckOk(agent.status(), "start");
      }
      if (random_.OneIn("pauses", 2)) {
        worker_.Sleep(DrawDuration(random_, "pause", absl::Seconds(1)));
      }
    }
  }

 private:
  void Live(const AgentOptions& options, EchoAgent& agent) {
    const std::string key = "scenario/lives/" + options.name;
    if (Change(key, "", me_)) {
      worker_.Reached("started as " + options.name);
      worker_.Sleep(
          DrawDuration(random_, "life",
                       absl::Seconds(random_.OneIn("lives long", 3) ? 12 : 2)));
      Change(key, me_, "");
    }
    worker_.CheckOk(agent.Shutdown(absl::Seconds(5)), "shutdown");
  }

  // Returns false when the store was away for too long. Fails if the other one
  // has left its own value there, which it takes away before it shuts down.
  bool Change(const std::string& key, const std::string& from,
              const std::string& to) {
    const absl::Time end = worker_.In(absl::Minutes(1));
    while (worker_.runtime().Now() < end) {
      const absl::StatusOr<std::string> now =
          store_->CompareSet(key, from, to, worker_.In(kAccess));
      if (now.ok()) {
        return worker_.Check(*now == to, "twin",
                             me_ + " has started, and " + *now + " lives");
      }
      worker_.Sleep(absl::Milliseconds(20));
    }
    return false;
  }

  Worker& worker_;
  const std::shared_ptr<Store> store_;
  Draws random_;
  const std::string me_;
};

void Twins(Worker& worker) { Twin(worker).Run(); }

std::vector<std::string> DrawTwinFaults(Draws random,
                                        const ScenarioParams& params) {
  std::vector<std::string> lines;
  const int64_t active_ms = 1000 * params.find("active_seconds")->second;
  for (int64_t left = random.Between("faults", 0, 4); left > 0; --left) {
    const std::string at = " after " +
                           std::to_string(random.Between("at", 1, active_ms)) +
                           "ms for ";
    const int64_t rank = random.Between("rank", 0, 2);
    const std::string worker = "w" + std::to_string(rank);
    switch (random.Below("kind", 5)) {
      case 0:
        // A long one is for accesses that take effect when nobody waits for
        // them any more, after faster ones of the next start.
        lines.push_back(
            "store-delay " +
            std::to_string(random.Between(
                "delay", 1, random.OneIn("short delay", 2) ? 50 : 3000)) +
            "ms" + at + "2s");
        break;
      case 1:
        lines.push_back(
            "store-outage " + worker + at +
            std::to_string(random.Between("outage length", 10, 4000)) + "ms");
        break;
      case 2:
        // For less than a worker must refuse connections to count as dead.
        lines.push_back("refuse " + worker + at + "300ms");
        break;
      case 3:
        lines.push_back(
            "pause " + worker + at +
            std::to_string(random.Between("pause length", 10, 2000)) + "ms");
        break;
      default:
        // Together for less than a worker must be silent to count as dead.
        lines.push_back(
            "hold " + worker + "-w" + std::to_string((rank + 1) % 3) + at +
            std::to_string(random.Between("hold length", 10, 2000)) + "ms");
        break;
    }
  }
  // The workers' own notes of who lives would be spoiled by late effects.
  AddStoreDoubts(random.Part("doubts"), StoreDoubts::kLostReplies, 3, active_ms,
                 lines);
  return lines;
}

REPRISE_SCENARIO(
    twins,
    {.description = "two workers of one name and id start again and again",
     .workers = 3,
     .params = {{"active_seconds", 40}},
     .body = Twins,
     .faults = DrawTwinFaults,
     .probes = {"was refused", "gave up", "started as w0", "started as w1"},
     .fault_kinds = {"store-outage", "store-delay", "pause", "refuse", "hold",
                     "store-slow-keys", "store-lost-reply"},
     .enough_seeds = 50,
     .max_time = absl::Minutes(10),
     .settle_time = absl::Minutes(5)});

}  // namespace
}  // namespace reprise::scenarios
