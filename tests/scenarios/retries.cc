// Calls that are sent again until they succeed, over connections that break and
// to handlers that fail at first; errors that a retry does not help against;
// cancellation; and a shutdown in the pause before the next attempt.

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/runtime/mutex.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr int kCalls = 4;  // to each peer
constexpr char kRefusal[] = "not this one";

// A request of a `padding` that is odd is refused by the remote handler.
absl::StatusOr<Message> Handle(Worker& worker, Message request) {
  absl::StatusOr<CallSpec> spec = ReadRequest(request);
  if (!worker.CheckOk(spec.status(), "content")) return spec.status();
  worker.Sleep(spec->work);
  if (spec->padding % 2 == 1) return absl::UnavailableError(kRefusal);
  return MakeReply(*spec, std::move(request));
}

class Persistent {
 public:
  Persistent(Worker& worker, Agent& agent)
      : worker_(worker), agent_(agent), random_(worker.random("retries")) {}

  void Run() {
    for (int i = 0; i < kCalls; ++i) {
      for (int rank = 0; rank < worker_.world_size(); ++rank) {
        CallUntilDone(rank);
      }
    }
    RemoteError();
    GiveUp();
    GiveUpSoon();
    Cancel();
  }

  // With `agent_` about to be shut down: the call waits for a retry then.
  Future LeaveOneWaiting() {
    return agent_.SendWithRetries(
        worker_.NameOf(0), MakeRequest(NewCall(absl::Seconds(1))),
        {.timeout = absl::Microseconds(50)},
        {.max_retries = 3, .retry_duration = absl::Seconds(30)});
  }

 private:
  CallSpec NewCall(absl::Duration work) {
    CallSpec spec;
    spec.tag = static_cast<uint64_t>(worker_.rank()) << 40 | ++tags_;
    spec.work = work;
    spec.padding = 2 * random_.Between("padding", 1, 50);
    if (random_.OneIn("has tensors", 2))
      spec.tensors = {random_.Between("bytes", 1, 2000)};
    return spec;
  }

  int64_t num_retries() { return agent_.GetMetrics()["agent.retries"]; }

  // The faults pass, so a patient call succeeds.
  void CallUntilDone(int rank) {
    const CallSpec spec =
        NewCall(DrawDuration(random_, "work", absl::Milliseconds(3)));
    const Future call = agent_.SendWithRetries(
        worker_.NameOf(rank), MakeRequest(spec),
        {.timeout = absl::Milliseconds(random_.Between("timeout", 10, 400))},
        {.max_retries = 90,
         .retry_duration = absl::Milliseconds(20),
         .backoff = random_.OneIn("no backoff", 2) ? 1.0 : 1.1});
    const bool done = call.Wait(worker_.In(absl::Minutes(30)));
    if (!worker_.Check(done, "retries", "a call is never done")) return;
    if (!worker_.CheckOk(call.status(), "retries")) return;
    worker_.CheckOk(CheckReply(spec, *call.result()), "content");
    if (num_retries() > 0) worker_.Reached("succeeded after retries");
  }

  // What the handler answers is the answer, whatever its code.
  void RemoteError() {
    CallSpec spec = NewCall(absl::ZeroDuration());
    ++spec.padding;
    const int64_t before = num_retries();
    const absl::Status status =
        agent_
            .SendWithRetries(static_cast<WorkerId>(worker_.rank()),
                             MakeRequest(spec), {},
                             {.retry_duration = absl::ZeroDuration()})
            .status();
    worker_.Check(absl::IsUnavailable(status), "remote-error",
                  status.ToString());
    worker_.Check(num_retries() == before, "remote-error", "it was sent again");
  }

  void GiveUp() {
    const absl::Status status =
        agent_
            .SendWithRetries(
                static_cast<WorkerId>(worker_.rank()),
                MakeRequest(NewCall(absl::Seconds(1))),
                {.timeout = absl::Microseconds(50)},
                {.max_retries = 2, .retry_duration = absl::Milliseconds(1)})
            .status();
    worker_.Check(absl::IsDeadlineExceeded(status), "gives-up",
                  status.ToString());
    worker_.Check(status.message().find("The RPC has not succeeded after the "
                                        "specified number of max retries "
                                        "(2).") == 0,
                  "gives-up", status.ToString());
  }

  // However steep the backoff is, no pause is longer than `max_pause`.
  void GiveUpSoon() {
    const absl::Time start = worker_.runtime().Now();
    agent_
        .SendWithRetries(static_cast<WorkerId>(worker_.rank()),
                         MakeRequest(NewCall(absl::Seconds(1))),
                         {.timeout = absl::Microseconds(50)},
                         {.max_retries = 3,
                          .retry_duration = absl::Milliseconds(1),
                          .backoff = 100,
                          .max_pause = absl::Milliseconds(2)})
        .Wait();
    worker_.Check(worker_.runtime().Now() - start < absl::Seconds(1),
                  "gives-up", "three pauses of 2 ms took over a second");
  }

  void Cancel() {
    const Future call = LeaveOneWaiting();
    worker_.Sleep(
        DrawDuration(random_, "before the cancel", absl::Milliseconds(1)));
    call.Cancel();
    worker_.Check(call.Wait(worker_.In(absl::Milliseconds(20))), "cancel",
                  "a cancelled call goes on");
    worker_.Check(absl::IsCancelled(call.status()), "cancel",
                  call.status().ToString());
  }

  Worker& worker_;
  Agent& agent_;
  Draws random_;
  uint64_t tags_ = 0;
};

void Retries(Worker& worker) {
  AgentOptions options = worker.options();
  options.num_worker_threads = 64;
  auto agent =
      Agent::Start(worker.environment(), options,
                   Blocking([&worker](Message request, const RequestInfo&) {
                     return Handle(worker, std::move(request));
                   }),
                   worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Persistent persistent(worker, **agent);
  persistent.Run();
  worker.CheckOk((*agent)->JoinForShutdown(worker.In(absl::Minutes(30))),
                 "join");
  const Future waiting = persistent.LeaveOneWaiting();
  worker.Sleep(absl::Milliseconds(2));
  if (!waiting.done()) worker.Reached("shut down before the next attempt");
  const absl::Time start = worker.runtime().Now();
  worker.CheckOk((*agent)->Shutdown(worker.In(absl::Seconds(10))), "shutdown");
  worker.Check(worker.runtime().Now() - start < absl::Seconds(5), "shutdown",
               "it waited for a call's next attempt");
  worker.Check(waiting.done(), "shutdown", "a call is left open");
  worker.Check(absl::IsCancelled(waiting.status()), "shutdown",
               waiting.status().ToString());
  CheckNothingIsLeft(worker, (*agent)->GetMetrics());
}

std::vector<std::string> DrawFaults(Draws random, const ScenarioParams&) {
  std::vector<std::string> faults;
  for (int64_t left = random.Between("faults", 0, 3); left > 0; --left) {
    const std::string at = "w" + std::to_string(random.Below("caller", 3)) +
                           " call.completed#" +
                           std::to_string(random.Between("count", 1, 12));
    const int64_t first = static_cast<int64_t>(random.Below("first", 3));
    const int64_t second = (first + random.Between("second", 1, 2)) % 3;
    const std::string pair =
        "w" + std::to_string(first) + "-w" + std::to_string(second);
    if (random.OneIn("cut", 2)) {
      faults.push_back("cut " + pair + " when " + at +
                       (random.OneIn("reset", 2) ? " reset" : " eof"));
    } else if (random.OneIn("hold", 2)) {
      faults.push_back("hold " + pair + " when " + at + " for " +
                       std::to_string(random.Between("hold length", 1, 1000)) +
                       "ms");
    } else {
      faults.push_back(
          "refuse w" + std::to_string(second) + " when " + at + " for " +
          std::to_string(random.Between("refuse length", 1, 1000)) + "ms");
      faults.push_back("cut " + pair + " when " + at + " reset");
    }
  }
  return faults;
}

REPRISE_SCENARIO(retries,
                 {.description = "calls that are sent until they succeed",
                  .workers = 3,
                  .body = Retries,
                  .faults = DrawFaults,
                  .probes = {"succeeded after retries",
                             "shut down before the next attempt"},
                  .fault_kinds = {"cut", "hold", "refuse"},
                  .max_time = absl::Hours(2),
                  .settle_time = absl::Hours(1)});

}  // namespace
}  // namespace reprise::scenarios
