// The server learns that a caller has given up. A handler that asks is told of
// a cancelled call and of a deadline that has passed. A request whose caller
// gave up before a thread was free is not begun.

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

constexpr int kThreads = 2;
constexpr absl::Duration kLongWork = absl::Seconds(20);
constexpr absl::Duration kStep = absl::Milliseconds(1);

struct Ran {
  explicit Ran(Runtime& runtime) : mutex(runtime, "Ran") {}
  Mutex mutex;
  int begun ABSL_GUARDED_BY(mutex) = 0;
  int noticed ABSL_GUARDED_BY(mutex) = 0;
};

// Works until it is done or its caller has given up.
absl::StatusOr<Message> Work(Worker& worker, Ran& ran, Message request,
                             const RequestInfo& info) {
  absl::StatusOr<CallSpec> spec = ReadRequest(request);
  if (!worker.CheckOk(spec.status(), "content")) return spec.status();
  {
    MutexLock lock(ran.mutex);
    ++ran.begun;
  }
  const absl::Time end = worker.In(spec->work);
  while (worker.runtime().Now() < end) {
    if (info.IsCancelled()) {
      MutexLock lock(ran.mutex);
      ++ran.noticed;
      return absl::CancelledError("nobody waits");
    }
    worker.Sleep(kStep);
  }
  worker.Check(spec->work < kLongWork, "noticed",
               "a handler worked to its end for nobody");
  return MakeReply(*spec, std::move(request));
}

void CancelReachesServer(Worker& worker) {
  AgentOptions options = worker.options();
  options.num_worker_threads = kThreads;
  Ran ran(worker.runtime());
  auto agent =
      Agent::Start(worker.environment(), options,
                   Blocking([&](Message request, const RequestInfo& info) {
                     return Work(worker, ran, std::move(request), info);
                   }),
                   worker.In(absl::Seconds(30)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Draws random = worker.random("calls");
  const std::string peer =
      worker.NameOf((worker.rank() + 1) % worker.world_size());
  uint64_t tags = 0;
  const auto send = [&](absl::Duration work, absl::Duration timeout) {
    CallSpec spec;
    spec.tag = static_cast<uint64_t>(worker.rank()) << 40 | ++tags;
    spec.work = work;
    return (*agent)->Send(peer, MakeRequest(spec), {.timeout = timeout});
  };
  for (int round = 0; round < 5; ++round) {
    std::vector<Future> calls;
    // More than there are threads: some are given up before they begin.
    for (int i = 0; i < 2 * kThreads; ++i) {
      const bool by_deadline = random.OneIn("by deadline", 3);
      calls.push_back(send(
          kLongWork, by_deadline
                         ? absl::Milliseconds(random.Between("deadline", 1, 20))
                         : absl::ZeroDuration()));
    }
    worker.Sleep(DrawDuration(random, "pause", absl::Milliseconds(20)));
    for (const Future& call : calls) call.Cancel();
    const absl::Time start = worker.runtime().Now();
    // All threads are free again soon, or else this call would have to wait.
    const absl::Status status =
        send(absl::ZeroDuration(), absl::Minutes(1)).status();
    worker.CheckOk(status, "free");
    worker.Check(worker.runtime().Now() - start <
                     absl::Milliseconds(worker.param("slack_ms")),
                 "free", "the threads worked for nobody");
  }
  worker.CheckOk((*agent)->JoinForShutdown(worker.In(absl::Minutes(2))),
                 "join");
  {
    MutexLock lock(ran.mutex);
    if (ran.noticed > 0) worker.Reached("noticed");
  }
  if ((*agent)->GetMetrics()["agent.abandoned_requests"] > 0) {
    worker.Reached("not begun");
  }
  worker.CheckOk((*agent)->Shutdown(worker.In(absl::Seconds(10))), "shutdown");
  CheckNothingIsLeft(worker, (*agent)->GetMetrics());
}

REPRISE_SCENARIO(cancel_reaches_server,
                 {.description = "callers that give up are heard of",
                  .workers = 3,
                  .params = {{"slack_ms", 200}},
                  .body = CancelReachesServer,
                  .probes = {"noticed", "not begun"},
                  .enough_seeds = 20,
                  .max_time = absl::Minutes(5),
                  .settle_time = absl::Minutes(1),
                  .process_params = {{"slack_ms", 3000}}});

}  // namespace
}  // namespace reprise::scenarios
