// Calls with an idempotency key, sent again and again while connections break:
// each runs its handler once, and all its attempts get that run's result. A
// worker whose memory is small forgets keys, and then refuses them.

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

constexpr int kCalls = 5;           // to each peer
constexpr size_t kSmallMemory = 2;  // of keys, of each caller

// Counts how often each call was run.
class Counter {
 public:
  explicit Counter(Worker& worker)
      : worker_(worker), mutex_(worker.runtime(), "Counter") {}

  absl::StatusOr<Message> Run(Message request) {
    absl::StatusOr<CallSpec> spec = ReadRequest(request);
    if (!worker_.CheckOk(spec.status(), "content")) return spec.status();
    int runs = 0;
    {
      MutexLock lock(mutex_);
      runs = ++runs_[spec->tag];
    }
    worker_.Check(runs == 1, "once",
                  "call " + std::to_string(spec->tag) + " ran " +
                      std::to_string(runs) + " times");
    if (spec->work > absl::ZeroDuration()) worker_.Sleep(spec->work);
    return MakeReply(*spec, std::move(request));
  }

 private:
  Worker& worker_;
  Mutex mutex_;
  std::map<uint64_t, int> runs_;
};

const RetryOptions kRetry{.max_retries = 60,
                          .retry_duration = absl::Milliseconds(15),
                          .backoff = 1.1};

struct Resend {
  int rank;
  CallSpec spec;
  CallOptions call_options;
};

// Each was answered with its result, or refused because its key may have been
// forgotten.
bool Await(Worker& worker,
           const std::vector<std::pair<Future, CallSpec>>& calls) {
  for (const auto& [call, spec] : calls) {
    const bool done = call.Wait(worker.In(absl::Minutes(30)));
    if (!worker.Check(done, "idempotent", "a call is never done")) return false;
    const absl::Status status = call.status();
    if (absl::IsFailedPrecondition(status) &&
        status.message().find("may have run before") != std::string::npos) {
      worker.Reached("forgotten");
      continue;
    }
    if (!worker.CheckOk(status, "idempotent")) return false;
    worker.CheckOk(CheckReply(spec, *call.result()), "content");
  }
  return true;
}

void Idempotent(Worker& worker) {
  AgentOptions options = worker.options();
  // Attempts that wait for a run hold no thread, so few are enough.
  options.num_worker_threads = 4;
  Draws random = worker.random("calls");
  if (random.OneIn("small memory", 3))
    options.max_idempotent_calls_per_caller = kSmallMemory;
  Counter counter(worker);
  auto agent =
      Agent::Start(worker.environment(), options,
                   Blocking([&counter](Message request, const RequestInfo&) {
                     return counter.Run(std::move(request));
                   }),
                   worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  std::vector<std::pair<Future, CallSpec>> calls;
  std::vector<Resend> resends;
  uint64_t tags = 0;
  for (int i = 0; i < kCalls; ++i) {
    for (int rank = 0; rank < worker.world_size(); ++rank) {
      CallSpec spec;
      spec.tag = static_cast<uint64_t>(worker.rank()) << 40 | ++tags;
      // Some answers are ready when the second sending arrives.
      if (!random.OneIn("no work", 3)) {
        spec.work = DrawDuration(random, "work", absl::Milliseconds(30));
      }
      if (random.OneIn("has tensors", 2))
        spec.tensors = {random.Between("bytes", 1, 1000)};
      const CallOptions call_options{
          .timeout = absl::Milliseconds(random.Between("timeout", 1, 100)),
          .idempotency_key = "call " + std::to_string(tags)};
      calls.emplace_back(
          (*agent)->SendWithRetries(worker.NameOf(rank), MakeRequest(spec),
                                    call_options, kRetry),
          spec);
      if (i == 0) resends.push_back({rank, spec, call_options});
      // Another caller sends the same call again.
      if (random.OneIn("sent twice", 3)) {
        calls.emplace_back(
            (*agent)->SendWithRetries(worker.NameOf(rank), MakeRequest(spec),
                                      call_options, kRetry),
            spec);
      }
    }
    worker.Sleep(DrawDuration(random, "pause", absl::Milliseconds(10)));
  }
  if (!Await(worker, calls)) return;
  // The first calls once more, after all others.
  calls.clear();
  for (const Resend& resend : resends) {
    calls.emplace_back((*agent)->SendWithRetries(worker.NameOf(resend.rank),
                                                 MakeRequest(resend.spec),
                                                 resend.call_options, kRetry),
                       resend.spec);
  }
  if (!Await(worker, calls)) return;
  if ((*agent)->GetMetrics()["agent.retries"] > 0) worker.Reached("sent again");
  if ((*agent)->GetMetrics()["agent.reconnects"] > 0) {
    worker.Reached("reconnected");
  }
  worker.CheckOk((*agent)->JoinForShutdown(worker.In(absl::Minutes(30))),
                 "join");
  worker.CheckOk((*agent)->Shutdown(worker.In(absl::Seconds(10))), "shutdown");
  CheckNothingIsLeft(worker, (*agent)->GetMetrics());
}

std::vector<std::string> DrawFaults(Draws random, const ScenarioParams&) {
  std::vector<std::string> faults;
  for (int64_t left = random.Between("faults", 0, 3); left > 0; --left) {
    const std::string event =
        random.OneIn("at a reply", 2)
            ? " reply#"
            : (random.OneIn("at a request", 2) ? " request#"
                                               : " call.completed#");
    const int64_t first = static_cast<int64_t>(random.Below("first", 3));
    const int64_t second = (first + random.Between("second", 1, 2)) % 3;
    std::string line =
        "w" + std::to_string(first) + "-w" + std::to_string(second) +
        " when w" +
        std::to_string(random.OneIn("of the first", 2) ? first : second) +
        event + std::to_string(random.Between("count", 1, 15));
    if (random.OneIn("hold", 4)) {
      faults.push_back("hold " + line + " for " +
                       std::to_string(random.Between("length", 1, 500)) + "ms");
    } else {
      faults.push_back("cut " + line +
                       (random.OneIn("reset", 2) ? " reset" : " eof"));
    }
  }
  return faults;
}

REPRISE_SCENARIO(idempotent,
                 {.description = "resent calls run their handler once",
                  .workers = 3,
                  .body = Idempotent,
                  .faults = DrawFaults,
                  .probes = {"sent again", "reconnected", "forgotten"},
                  .fault_kinds = {"cut", "hold"},
                  .max_time = absl::Hours(2),
                  .settle_time = absl::Hours(1)});

}  // namespace
}  // namespace reprise::scenarios
