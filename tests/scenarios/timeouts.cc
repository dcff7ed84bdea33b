// Calls that take too long, with every kind of timeout: the agent's default, a
// timeout of the call's own, none, less than a millisecond, and about as long
// as the reply takes; and calls while all threads that run handlers wait for
// each other.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr int kThreads = 2;
constexpr absl::Duration kDefaultTimeout = absl::Milliseconds(300);

class Impatient {
 public:
  Impatient(Worker& worker, EchoAgent& agent)
      : worker_(worker),
        agent_(agent),
        random_(worker.random("timeouts")),
        slack_(absl::Milliseconds(worker.param("slack_ms"))) {}

  void Run() {
    // Each worker does these in an order of its own.
    std::vector<std::function<void()>> parts = {
        [this] { DefaultTimeout(); }, [this] { TimeoutOfItsOwn(); },
        [this] { NoTimeout(); },      [this] { LessThanAMillisecond(); },
        [this] { ByAHair(); },        [this] { PoolIsFull(); },
        [this] { Cancel(); },
    };
    for (size_t left = parts.size(); left > 0; --left) {
      std::swap(parts[random_.Below("part", left)], parts[left - 1]);
      parts[left - 1]();
    }
    // Replies to what timed out may still come.
    worker_.Sleep(absl::Seconds(1));
    if (agent_.Metric("agent.late_replies") > 0) worker_.Reached("late reply");
    CheckStatus(agent_.agent().JoinForShutdown(worker_.In(absl::Minutes(1))),
                {absl::StatusCode::kOk}, "join-for-shutdown");
    worker_.Check(agent_.Metric("agent.pending_calls") == 0, "nothing-pending",
                  "calls are in the table, and none is open");
    TimeoutAtTheLastMoment();
    worker_.CheckOk(agent_.Shutdown(absl::Seconds(10)), "shutdown");
  }

 private:
  struct Timed {
    Future call;
    CallSpec spec;
  };

  int AnyPeer(Draws& random, DrawName name) {
    return static_cast<int>(
        random.Below(name, static_cast<uint64_t>(worker_.world_size())));
  }

  CallSpec SpecOf(Draws random, absl::Duration work) {
    CallSpec spec = agent_.NewCall();
    spec.work = work;
    if (random.OneIn("has tensors", 4))
      spec.tensors = {random.Between("bytes", 0, 1024)};
    return spec;
  }

  // `timeout` as in CallOptions. The callback says whether it was in time.
  Timed Send(int to, CallSpec spec, absl::Duration timeout) {
    const absl::Duration effective =
        timeout == kUnsetTimeout ? kDefaultTimeout : timeout;
    const bool ever = effective != absl::ZeroDuration();
    Timed timed{agent_.Send(to, spec, timeout), std::move(spec)};
    if (ever) {
      const absl::Time latest = worker_.In(effective + slack_);
      agent_.Then(timed.call, [this, latest](const Future::Result&) {
        const absl::Time now = worker_.runtime().Now();
        worker_.Check(now <= latest, "on-time",
                      "a call was completed " +
                          absl::FormatDuration(now - latest + slack_) +
                          " after its deadline");
      });
    }
    return timed;
  }

  Timed SendToAny(Draws random, absl::Duration work, absl::Duration timeout) {
    const int to = AnyPeer(random, "peer");
    return Send(to, SpecOf(random.Part("spec"), work), timeout);
  }

  void CheckStatus(const absl::Status& status,
                   const std::vector<absl::StatusCode>& allowed,
                   std::string_view rule) {
    for (const absl::StatusCode code : allowed) {
      if (status.code() == code) return;
    }
    worker_.Check(false, rule, status.ToString());
  }

  absl::StatusCode Await(const Timed& timed,
                         const std::vector<absl::StatusCode>& allowed,
                         std::string_view rule) {
    const absl::Status status = agent_.Await(timed.call, timed.spec);
    CheckStatus(status, allowed, rule);
    return status.code();
  }

  void DefaultTimeout() {
    Await(SendToAny(random_.Part("long work"), absl::Milliseconds(600),
                    kUnsetTimeout),
          {absl::StatusCode::kDeadlineExceeded}, "default-timeout");
    Await(
        SendToAny(random_.Part("no work"), absl::ZeroDuration(), kUnsetTimeout),
        {absl::StatusCode::kOk, absl::StatusCode::kDeadlineExceeded},
        "default-timeout");
  }

  void TimeoutOfItsOwn() {
    Await(SendToAny(random_.Part("times out"), absl::Milliseconds(100),
                    absl::Milliseconds(random_.Between("own timeout", 1, 50))),
          {absl::StatusCode::kDeadlineExceeded}, "timeout");
    // Longer than the default timeout.
    Await(SendToAny(random_.Part("has time"), absl::Milliseconds(400),
                    absl::Minutes(1)),
          {absl::StatusCode::kOk}, "timeout");
  }

  void NoTimeout() {
    Await(SendToAny(random_.Part("no timeout"), absl::Milliseconds(600),
                    absl::ZeroDuration()),
          {absl::StatusCode::kOk}, "no-timeout");
  }

  void LessThanAMillisecond() {
    const absl::StatusCode status = Await(
        SendToAny(
            random_.Part("less than a millisecond"), absl::Milliseconds(5),
            absl::Nanoseconds(random_.Between("sub-millisecond", 1, 999'999))),
        {absl::StatusCode::kDeadlineExceeded}, "sub-millisecond");
    if (status == absl::StatusCode::kDeadlineExceeded) {
      worker_.Reached("timeout below a millisecond");
    }
  }

  // The deadline falls where the reply comes.
  void ByAHair() {
    absl::Duration usual = absl::Microseconds(400);
    for (int i = 0; i < worker_.param("hairs"); ++i) {
      const absl::Time start = worker_.runtime().Now();
      const Timed timed =
          SendToAny(random_.Part("by a hair"), absl::ZeroDuration(),
                    usual * random_.Between("hair", 50, 150) / 100);
      // So does a callback, sometimes.
      const bool calls_back = random_.OneIn("late callback", 2);
      if (calls_back) {
        worker_.Sleep(usual * random_.Between("callback", 50, 150) / 100);
        agent_.Then(timed.call, [](const Future::Result&) {});
      }
      const absl::StatusCode status = Await(
          timed, {absl::StatusCode::kOk, absl::StatusCode::kDeadlineExceeded},
          "by-a-hair");
      const absl::Duration took = worker_.runtime().Now() - start;
      const bool replied = status == absl::StatusCode::kOk;
      if (!replied) {
        usual = std::min(usual * 5 / 4, absl::Milliseconds(100));
      } else if (!calls_back) {  // otherwise it took as long as the sleep
        usual = std::min((usual + took) / 2, absl::Milliseconds(100));
      }
      if (replied) {
        worker_.Reached("reply before a close deadline");
      } else {
        worker_.Reached("deadline before a close reply");
      }
    }
  }

  // More handlers than there are threads wait for calls back to here, which
  // find no thread either: only their timeouts end this.
  void PoolIsFull() {
    std::vector<Timed> calls;
    const absl::Duration nested =
        absl::Milliseconds(random_.Between("nested timeout", 50, 250));
    for (int i = 0; i < 2 * kThreads; ++i) {
      for (int rank = 0; rank < worker_.world_size(); ++rank) {
        CallSpec spec = SpecOf(random_.Part("nested"), absl::ZeroDuration());
        spec.via = {AnyPeer(random_, "first hop"),
                    AnyPeer(random_, "second hop")};
        spec.via_timeout = nested;
        calls.push_back(Send(rank, std::move(spec), absl::Milliseconds(200)));
      }
    }
    bool full = false;
    for (const Timed& call : calls) {
      // The call's own timeout ends it, or that of the handler's call.
      const absl::StatusCode status = Await(
          call, {absl::StatusCode::kOk, absl::StatusCode::kDeadlineExceeded},
          "pool-is-full");
      full = full || status == absl::StatusCode::kDeadlineExceeded;
    }
    if (full) worker_.Reached("timeout while the pool is full");
  }

  void Cancel() {
    for (int i = 0; i < 4; ++i) {
      const Timed timed =
          SendToAny(random_.Part("cancelled"), absl::Milliseconds(50),
                    absl::Milliseconds(250));
      worker_.Sleep(
          DrawDuration(random_, "before the cancel", absl::Milliseconds(1)));
      timed.call.Cancel();
      const bool done = timed.call.Wait(worker_.In(slack_));
      worker_.Check(done, "cancel", "a cancelled call goes on");
      Await(timed, {absl::StatusCode::kCancelled}, "cancel");
    }
    worker_.Reached("cancelled");
  }

  // The timer has just struck when the shutdown stops it. The peer may have
  // left already.
  void TimeoutAtTheLastMoment() {
    const Timed timed =
        SendToAny(random_.Part("the last"), absl::ZeroDuration(),
                  absl::Microseconds(random_.Between("last moment", 1, 300)));
    Await(timed,
          {absl::StatusCode::kOk, absl::StatusCode::kDeadlineExceeded,
           absl::StatusCode::kUnavailable},
          "last-moment");
  }

  Worker& worker_;
  EchoAgent& agent_;
  Draws random_;
  const absl::Duration slack_;
};

void Timeouts(Worker& worker) {
  AgentOptions options = worker.options();
  options.num_worker_threads = kThreads;
  options.rpc_timeout = kDefaultTimeout;
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Seconds(30)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Impatient(worker, **agent).Run();
}

REPRISE_SCENARIO(
    timeouts,
    {.description = "calls that take too long, also while the pool is full",
     .workers = 3,
     // How late a completion may be; and how many calls race their deadlines.
     .params = {{"slack_ms", 20}, {"hairs", 12}},
     .smallest = {{"hairs", 0}},
     .body = Timeouts,
     .probes = {"late reply", "timeout below a millisecond",
                "reply before a close deadline",
                "deadline before a close reply",
                "timeout while the pool is full", "cancelled"},
     .enough_seeds = 20,
     .max_time = absl::Minutes(2),
     .settle_time = absl::Seconds(20),
     .process_params = {{"slack_ms", 2000}}});

}  // namespace
}  // namespace reprise::scenarios
