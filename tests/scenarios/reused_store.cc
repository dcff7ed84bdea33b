// A job runs several times over one store, without anything being tidied up
// between its runs: two workers start as a static group, call each other, and
// end together, or in the middle of a barrier. In each run a twin of the first
// worker, which lives, tries to take its place. Rules, besides those
// of echo_agent.h:
//
//  alone   no worker starts, or leaves a barrier, before the other has come to
//          it in this run
//  twin    a second worker of a name and id that live does not start
//  start   both start, in every run

#include <memory>
#include <string>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"
#include "tests/scenarios/faults.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kAccess = absl::Seconds(5);
constexpr absl::Duration kPatience = absl::Minutes(1);

class Job {
 public:
  explicit Job(Worker& worker)
      : worker_(worker),
        store_(worker.environment().store),
        random_(worker.random("job")) {}

  void Run() {
    for (run_ = 0; run_ < worker_.param("runs"); ++run_) {
      worker_.Sleep(DrawDuration(random_, "pause", absl::Seconds(3)));
      Post("began");
      std::unique_ptr<EchoAgent> agent = Start();
      if (agent == nullptr) return;
      Post("started");
      CheckOtherHas("began");
      CallOther(*agent);
      // An agent answers calls before it has started, and may give up then.
      if (worker_.rank() == 1) {
        if (!Has("started", Other(), kPatience)) return;
        StartTwin();
      }
      End(*agent);
      Post("ended");
      if (!Has("ended", Other(), kPatience)) return;
    }
    worker_.Reached("ran several times");
  }

 private:
  int Other() const { return 1 - worker_.rank(); }

  std::string Key(std::string_view what, int rank) const {
    return "scenario/" + std::string(what) + "/" + std::to_string(run_) + "/" +
           std::to_string(rank);
  }

  void Post(std::string_view what) {
    const absl::Time end = worker_.In(kPatience);
    absl::Status status;
    do {
      status = store_->Set(Key(what, worker_.rank()), "", worker_.In(kAccess));
      if (!status.ok()) worker_.Sleep(absl::Milliseconds(20));
    } while (!status.ok() && worker_.runtime().Now() < end);
    worker_.CheckOk(status, "post");
  }

  bool Has(std::string_view what, int rank, absl::Duration patience) {
    const absl::Time end = worker_.In(patience);
    absl::Status status;
    do {
      status = store_->TryGet(Key(what, rank), worker_.In(kAccess)).status();
      if (!status.ok()) worker_.Sleep(absl::Milliseconds(20));
    } while (!status.ok() && worker_.runtime().Now() < end &&
             (patience > kAccess || !absl::IsNotFound(status)));
    return status.ok();
  }

  void CheckOtherHas(std::string_view what) {
    worker_.Check(Has(what, Other(), kAccess), "alone",
                  "in run " + std::to_string(run_) + " it has come past '" +
                      std::string(what) + "' without the other one");
  }

  // Some are impatient at first.
  std::unique_ptr<EchoAgent> Start() {
    const absl::Time end = worker_.In(kPatience);
    absl::Status status;
    do {
      const absl::Duration patience =
          random_.OneIn("patient", 2)
              ? kPatience
              : DrawDuration(random_, "patience", absl::Seconds(2));
      auto agent = EchoAgent::Start(worker_, worker_.options(),
                                    worker_.In(patience), ++starts_);
      if (agent.ok()) return *std::move(agent);
      status = agent.status();
      worker_.Reached("came too early");
    } while (absl::IsDeadlineExceeded(status) && worker_.runtime().Now() < end);
    worker_.CheckOk(status, "start");
    return nullptr;
  }

  void CallOther(EchoAgent& agent) {
    const absl::Time end = worker_.In(kPatience);
    absl::Status status;
    do {
      status = agent.Call(Other(), agent.NewCall(), kPatience);
      if (!status.ok()) worker_.Sleep(absl::Milliseconds(20));
    } while (absl::IsUnavailable(status) && worker_.runtime().Now() < end);
    worker_.CheckOk(status, "call");
  }

  void StartTwin() {
    AgentOptions options = worker_.options();
    options.name = worker_.NameOf(0);
    options.id = 0;
    // What becomes of it is no event of this worker.
    Environment environment = worker_.environment();
    environment.observer = nullptr;
    const absl::Status twin =
        Agent::Start(
            environment, options,
            Blocking([](const Message&,
                        const RequestInfo&) -> absl::StatusOr<Message> {
              return absl::InternalError("the twin was called");
            }),
            worker_.In(absl::Seconds(5)))
            .status();
    if (absl::IsAlreadyExists(twin)) {
      worker_.Reached("a twin was refused");
      worker_.Check(twin.message().find("is not unique") != twin.message().npos,
                    "twin", twin.ToString());
    } else {
      worker_.Check(absl::IsDeadlineExceeded(twin), "twin", twin.ToString());
    }
  }

  void End(EchoAgent& agent) {
    Post("called");
    if (!Has("called", Other(), kPatience)) return;
    if (run_ % 3 != 1) {
      Post("joined");
      worker_.CheckOk(agent.agent().JoinForShutdown(worker_.In(kPatience)),
                      "join");
      CheckOtherHas("joined");
    } else if (worker_.rank() == 0) {
      // The other one does not come, and half a barrier is left in the store.
      const absl::Status joined =
          agent.agent().Join(worker_.In(absl::Milliseconds(500)));
      worker_.Check(absl::IsDeadlineExceeded(joined), "alone",
                    "a barrier without the other one: " + joined.ToString());
    }
    worker_.CheckOk(agent.Shutdown(absl::Seconds(5)), "shutdown");
  }

  Worker& worker_;
  const std::shared_ptr<Store> store_;
  Draws random_;
  int64_t run_ = 0;
  int starts_ = 0;
};

void ReusedStore(Worker& worker) { Job(worker).Run(); }

std::vector<std::string> DrawReuseFaults(Draws random,
                                         const ScenarioParams& /*params*/) {
  std::vector<std::string> lines;
  for (int64_t left = random.Between("faults", 0, 2); left > 0; --left) {
    const std::string at =
        " after " + std::to_string(random.Between("at", 1, 20000)) + "ms for ";
    const std::string rank = std::to_string(random.Below("rank", 2));
    switch (random.Below("kind", 4)) {
      case 0:
        lines.push_back("store-delay " +
                        std::to_string(random.Between("delay", 1, 50)) + "ms" +
                        at + "2s");
        break;
      case 1:
        lines.push_back(
            "store-outage w" + rank + at +
            std::to_string(random.Between("outage length", 10, 1000)) + "ms");
        break;
      case 2:
        // This is shorter than a worker must refuse connections to count as
        // dead.
        lines.push_back("refuse w" + rank + at + "300ms");
        break;
      default:
        lines.push_back(
            "pause w" + rank + at +
            std::to_string(random.Between("pause length", 10, 2000)) + "ms");
        break;
    }
  }
  AddStoreDoubts(random.Part("doubts"), StoreDoubts::kLateEffects, 2, 20000,
                 lines);
  return lines;
}

REPRISE_SCENARIO(reused_store,
                 {.description = "a job runs again and again over one store",
                  .workers = 2,
                  .params = {{"runs", 4}},
                  .smallest = {{"runs", 1}},
                  .body = ReusedStore,
                  .faults = DrawReuseFaults,
                  .probes = {"ran several times", "came too early",
                             "a twin was refused"},
                  .fault_kinds = {"store-outage", "store-delay", "pause",
                                  "refuse", "store-slow-keys",
                                  "store-lost-reply", "store-late-effect"},
                  .enough_seeds = 100,
                  .max_time = absl::Minutes(10),
                  .settle_time = absl::Minutes(5),
                  .process_params = {{"runs", 2}}});

}  // namespace
}  // namespace reprise::scenarios
