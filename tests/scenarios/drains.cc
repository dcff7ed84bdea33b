// A worker starts paused, serves, drains and serves again, while others call it
// in every way: again until they succeed, into memory of their own, without an
// answer, and several at a time. Rules:
//
//  drained       no handler runs before `Serve`, nor after `Drain` has returned
//  at-most-once  no call runs the handler twice
//  content       requests and replies are, byte for byte, what was sent
//  own-memory    a reply lies in the memory that its call gave it
//  together      several futures are done as one when they should be
//  nothing-left  as in echo_agent.h

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/device/device.h"
#include "agent/runtime/mutex.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr int kDraining = 0;  // the rank
constexpr int kRounds = 6;
constexpr int kAtATime = 3;
constexpr absl::Duration kTimeout = absl::Minutes(1);

const RetryOptions kRetry{.max_retries = 60,
                          .retry_duration = absl::Milliseconds(15),
                          .backoff = 1.1};

class Service {
 public:
  Service(Worker& worker, bool serves)
      : worker_(worker), mutex_(worker.runtime(), "Service"), serves_(serves) {}

  absl::StatusOr<Message> Run(Message request) {
    absl::StatusOr<CallSpec> spec = ReadRequest(request);
    if (!worker_.CheckOk(spec.status(), "content")) return spec.status();
    bool serves = false;
    bool is_new = false;
    {
      MutexLock lock(mutex_);
      serves = serves_;
      is_new = handled_.insert(spec->tag).second;
    }
    worker_.Check(serves, "drained",
                  "a handler begins though no requests are taken");
    worker_.Check(is_new, "at-most-once",
                  "call " + std::to_string(spec->tag) + " came twice");
    worker_.Sleep(spec->work);
    {
      MutexLock lock(mutex_);
      serves = serves_;
    }
    worker_.Check(serves, "drained", "a handler goes on after the drain");
    return MakeReply(*spec, std::move(request));
  }

  void SetServes(bool serves) {
    MutexLock lock(mutex_);
    serves_ = serves;
  }

 private:
  Worker& worker_;
  Mutex mutex_;
  bool serves_ ABSL_GUARDED_BY(mutex_);
  std::set<uint64_t> handled_ ABSL_GUARDED_BY(mutex_);
};

void ServeAndDrain(Worker& worker, Agent& agent, Service& service) {
  Draws random = worker.random("drains");
  for (int i = 0; i < 2; ++i) {
    worker.Sleep(
        DrawDuration(random, "out of service", absl::Milliseconds(50)));
    if (agent.GetMetrics()["agent.waiting_requests"] > 0) {
      worker.Reached("waited for the start");
    }
    service.SetServes(true);
    agent.Serve();
    if (i == 1) return;
    worker.Sleep(DrawDuration(random, "in service", absl::Milliseconds(60)));
    worker.CheckOk(agent.Drain(worker.In(absl::Minutes(1))), "drain");
    service.SetServes(false);
  }
}

class Caller {
 public:
  Caller(Worker& worker, Agent& agent)
      : worker_(worker), agent_(agent), random_(worker.random("calls")) {}

  void Run() {
    for (int round = 0; round < kRounds; ++round) {
      std::vector<Future> futures;
      std::vector<CallSpec> specs;
      for (int i = 0; i < kAtATime; ++i) {
        specs.push_back(NewCall());
        futures.push_back(
            agent_.SendWithRetries(kDraining, MakeRequest(specs.back()),
                                   {.timeout = kTimeout}, kRetry));
      }
      SendOneWay();
      CallIntoOwnMemory();
      AwaitTogether(futures);
      for (int i = 0; i < kAtATime; ++i) CheckReplyOf(futures[i], specs[i]);
      worker_.Sleep(DrawDuration(random_, "pause", absl::Milliseconds(15)));
    }
    if (agent_.GetMetrics()["agent.retries"] > 0) worker_.Reached("sent again");
  }

 private:
  CallSpec NewCall() {
    CallSpec spec;
    spec.tag = static_cast<uint64_t>(worker_.rank()) << 40 | ++tags_;
    spec.work = DrawDuration(random_, "work", absl::Milliseconds(5));
    return spec;
  }

  void CheckReplyOf(const Future& call, const CallSpec& spec) {
    if (!worker_.CheckOk(call.status(), "call")) return;
    worker_.CheckOk(CheckReply(spec, *call.result()), "content");
  }

  void SendOneWay() {
    const Future sent = agent_.SendOneWay(kDraining, MakeRequest(NewCall()),
                                          {.timeout = kTimeout});
    // What is refused may be heard of before it is known to be written.
    worker_.Check(sent.status().ok() || absl::IsUnavailable(sent.status()),
                  "one-way", sent.status().ToString());
  }

  void CallIntoOwnMemory() {
    CallSpec spec = NewCall();
    spec.tensors = {random_.Between("bytes", 1, 5000)};
    absl::StatusOr<std::shared_ptr<Storage>> memory =
        AllocateCpu(static_cast<size_t>(spec.tensors[0]));
    if (!worker_.CheckOk(memory.status(), "own-memory")) return;
    const Future call = agent_.SendWithRetries(
        kDraining, MakeRequest(spec),
        {.timeout = kTimeout, .receive_into = {.storages = {*memory}}}, kRetry);
    CheckReplyOf(call, spec);
    if (!call.status().ok()) return;
    worker_.Check(
        call.result()->tensors[0].storage->data() == (*memory)->data(),
        "own-memory", "a reply lies elsewhere");
  }

  void AwaitTogether(const std::vector<Future>& futures) {
    const Future any = WhenAny(worker_.runtime(), futures);
    const Future all = WhenAll(worker_.runtime(), futures);
    worker_.CheckOk(any.status(), "together");
    bool is_one_done = false;
    for (const Future& future : futures) {
      is_one_done = is_one_done || future.done();
    }
    worker_.Check(is_one_done, "together", "one should be done, and none is");
    worker_.CheckOk(all.status(), "together");
    for (const Future& future : futures) {
      worker_.Check(future.done(), "together", "all should be done");
    }
  }

  Worker& worker_;
  Agent& agent_;
  Draws random_;
  uint64_t tags_ = 0;
};

void Drains(Worker& worker) {
  AgentOptions options = worker.options();
  const bool drains = worker.rank() == kDraining;
  options.start_paused = drains;
  Service service(worker, /*serves=*/!drains);
  auto agent =
      Agent::Start(worker.environment(), options,
                   Blocking([&service](Message request, const RequestInfo&) {
                     return service.Run(std::move(request));
                   }),
                   worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  if (drains) {
    ServeAndDrain(worker, **agent, service);
  } else {
    Caller(worker, **agent).Run();
  }
  worker.CheckOk((*agent)->JoinForShutdown(worker.In(absl::Minutes(5))),
                 "join");
  worker.CheckOk((*agent)->Shutdown(worker.In(absl::Seconds(10))), "shutdown");
  CheckNothingIsLeft(worker, (*agent)->GetMetrics());
}

REPRISE_SCENARIO(
    drains,
    {.description = "a worker drains and serves again, called in every way",
     .workers = 3,
     .body = Drains,
     .probes = {"waited for the start", "sent again"},
     .enough_seeds = 20,
     .max_time = absl::Minutes(10)});

}  // namespace
}  // namespace reprise::scenarios
