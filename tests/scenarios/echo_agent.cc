#include "tests/scenarios/echo_agent.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "agent/runtime/mutex.h"

namespace reprise::scenarios {
namespace {

// Long enough for anything that still runs to show itself.
constexpr absl::Duration kAfterShutdown = absl::Milliseconds(20);

// No handler and no callback works for so long.
constexpr absl::Duration kLongestWork = absl::Minutes(1);

// A handler works in small pieces, so that a shutdown falls between them.
constexpr int kPiecesOfWork = 2;

}  // namespace

// Shared with the handlers and callbacks, which a faulty agent may run at any
// time.
struct EchoAgent::State {
  State(Worker& worker, absl::Time start_deadline, int life)
      : worker(worker),
        life(life),
        start_deadline(start_deadline),
        nested_slack(worker.has_param("slack_ms")
                         ? absl::Milliseconds(worker.param("slack_ms"))
                         : absl::Seconds(5)),
        mutex(worker.runtime(), "EchoAgent"),
        started(worker.runtime(), "EchoAgent.started") {}

  bool CheckIsUp(std::string_view what) {
    bool is_down = false;
    {
      MutexLock lock(mutex);
      is_down = down;
    }
    return worker.Check(
        !is_down, "after-shutdown",
        std::string(what) + " runs after the agent was shut down");
  }

  // Others may call before our own `Start` has returned. Null when it failed.
  Agent* WaitForAgent() {
    MutexLock lock(mutex);
    while (agent == nullptr && !down) {
      if (!started.WaitUntil(mutex, start_deadline)) break;
    }
    return agent;
  }

  CallSpec NewCall() {
    MutexLock lock(mutex);
    CallSpec spec;
    spec.tag = static_cast<uint64_t>(worker.rank()) << 48 |
               static_cast<uint64_t>(worker.incarnation() & 0xff) << 40 |
               static_cast<uint64_t>(life & 0xff) << 32 | ++last_tag;
    return spec;
  }

  absl::StatusOr<Message> Handle(Message request, const RequestInfo& info);
  absl::Status CallOn(const CallSpec& spec, absl::Time deadline);

  Worker& worker;
  const int life;
  const absl::Time start_deadline;
  const absl::Duration nested_slack;
  Mutex mutex;
  CondVar started;
  Agent* agent ABSL_GUARDED_BY(mutex) = nullptr;
  bool down ABSL_GUARDED_BY(mutex) = false;
  uint64_t last_tag ABSL_GUARDED_BY(mutex) = 0;
  // Were given to a call, and have not begun.
  int callbacks_due ABSL_GUARDED_BY(mutex) = 0;
  std::set<uint64_t> handled ABSL_GUARDED_BY(mutex);
};

absl::StatusOr<Message> EchoAgent::State::Handle(Message request,
                                                 const RequestInfo& info) {
  if (!CheckIsUp("a handler")) return absl::UnavailableError("shut down");
  absl::StatusOr<CallSpec> spec = ReadRequest(request);
  if (!worker.CheckOk(spec.status(), "content")) return spec.status();
  worker.Check(spec->to < 0 || spec->to == worker.rank(), "addressee",
               "a call for " + worker.NameOf(spec->to) + " came to " +
                   worker.NameOf(worker.rank()));
  bool is_new = false;
  {
    MutexLock lock(mutex);
    is_new = handled.insert(spec->tag).second;
  }
  worker.Check(is_new, "at-most-once",
               "call " + std::to_string(spec->tag) + " came twice");
  if (spec->work > absl::ZeroDuration()) {
    for (int piece = 0; piece < kPiecesOfWork; ++piece) {
      worker.Sleep(spec->work / kPiecesOfWork);
      if (!CheckIsUp("a handler")) return absl::UnavailableError("shut down");
    }
  }
  if (!spec->via.empty()) {
    absl::Status status = CallOn(*spec, info.deadline);
    if (!status.ok()) return status;
  }
  return MakeReply(*spec, std::move(request));
}

absl::Status EchoAgent::State::CallOn(const CallSpec& spec,
                                      absl::Time deadline) {
  Agent* const caller = WaitForAgent();
  if (caller == nullptr) return absl::UnavailableError("still starting");
  CallSpec next = NewCall();
  next.tensors = spec.tensors;
  next.via.assign(spec.via.begin() + 1, spec.via.end());
  next.via_timeout = spec.via_timeout;
  const absl::Time latest =
      std::max(deadline, worker.runtime().Now()) + nested_slack;
  const Future call =
      caller->Send(worker.NameOf(spec.via.front()), MakeRequest(next),
                   CallOptions{spec.via_timeout});
  const Future::Result& result = call.result();
  CheckIsUp("a handler");
  worker.Check(worker.runtime().Now() <= latest, "nested",
               "a call of a handler ended later than the request it serves");
  if (!result.ok()) return result.status();
  absl::Status content = CheckReply(next, *result);
  worker.CheckOk(content, "content");
  return content;
}

absl::StatusOr<std::unique_ptr<EchoAgent>> EchoAgent::Start(
    Worker& worker, const AgentOptions& options, absl::Time deadline,
    int life) {
  auto state = std::make_shared<State>(worker, deadline, life);
  absl::StatusOr<std::unique_ptr<Agent>> agent =
      Agent::Start(worker.environment(), options,
                   Blocking([state](Message request, const RequestInfo& info) {
                     return state->Handle(std::move(request), info);
                   }),
                   deadline);
  {
    MutexLock lock(state->mutex);
    if (agent.ok()) {
      state->agent = agent->get();
    } else {
      state->down = true;
    }
    state->started.NotifyAll();
  }
  if (!agent.ok()) return agent.status();
  return std::unique_ptr<EchoAgent>(
      new EchoAgent(worker, std::move(state), *std::move(agent)));
}

EchoAgent::EchoAgent(Worker& worker, std::shared_ptr<State> state,
                     std::unique_ptr<Agent> agent)
    : worker_(worker), state_(std::move(state)), agent_(std::move(agent)) {}

EchoAgent::~EchoAgent() = default;

CallSpec EchoAgent::NewCall() { return state_->NewCall(); }

Future EchoAgent::Send(int to, const CallSpec& spec, absl::Duration timeout) {
  return agent_->Send(worker_.NameOf(to), MakeRequest(spec),
                      CallOptions{timeout});
}

Future EchoAgent::Send(std::string_view to, const CallSpec& spec,
                       absl::Duration timeout) {
  return agent_->Send(to, MakeRequest(spec), CallOptions{timeout});
}

absl::Status EchoAgent::Await(const Future& call, const CallSpec& spec) {
  const Future::Result& result = call.result();
  if (result.ok()) worker_.CheckOk(CheckReply(spec, *result), "content");
  return result.status();
}

void EchoAgent::Then(const Future& call, Future::Callback callback) {
  {
    MutexLock lock(state_->mutex);
    ++state_->callbacks_due;
  }
  call.Then([state = state_, callback = std::move(callback)](
                const Future::Result& result) mutable {
    {
      MutexLock lock(state->mutex);
      --state->callbacks_due;
    }
    // What it refers to may be gone with the agent.
    if (!state->CheckIsUp("a callback")) return;
    callback(result);
    state->CheckIsUp("a callback");
  });
}

int64_t EchoAgent::Metric(std::string_view name) const {
  const std::map<std::string, int64_t> metrics = agent_->GetMetrics();
  const auto found = metrics.find(std::string(name));
  return found == metrics.end() ? -1 : found->second;
}

absl::Status EchoAgent::Shutdown(absl::Duration timeout, absl::Duration* took) {
  const absl::Time start = worker_.runtime().Now();
  absl::Status status = agent_->Shutdown(worker_.In(timeout));
  if (took != nullptr) *took = worker_.runtime().Now() - start;
  if (absl::IsDeadlineExceeded(status)) {
    worker_.CheckOk(agent_->Shutdown(worker_.In(kLongestWork)),
                    "a second shutdown");
  }
  int callbacks_due = 0;
  {
    MutexLock lock(state_->mutex);
    state_->down = true;
    callbacks_due = state_->callbacks_due;
  }
  // A shutdown that is out of time drops those that have not begun.
  worker_.Check(!status.ok() || callbacks_due == 0, "called-back",
                std::to_string(callbacks_due) + " callbacks never ran");
  const std::map<std::string, int64_t> metrics = agent_->GetMetrics();
  worker_.Sleep(kAfterShutdown);
  CheckNothingIsLeft(worker_, metrics);
  return status;
}

void CheckNothingIsLeft(Worker& worker,
                        const std::map<std::string, int64_t>& metrics) {
  for (const char* metric :
       {"agent.pending_calls", "agent.timers", "agent.pipes",
        "agent.client_active_calls", "agent.server_active_calls",
        "agent.server_active_async_calls", "agent.worker_queue",
        "agent.worker_queue_bytes", "agent.running_requests",
        "agent.running_bytes", "agent.unwritten_replies",
        "agent.unwritten_reply_bytes", "agent.unwritten_requests",
        "agent.unwritten_request_bytes", "agent.connections",
        "agent.callback_queue", "agent.waiting_requests"}) {
    const auto found = metrics.find(metric);
    const int64_t left = found == metrics.end() ? -1 : found->second;
    worker.Check(left == 0, "nothing-left",
                 std::string(metric) + " is " + std::to_string(left) +
                     " after the shutdown");
  }
}

void EchoAgent::JoinAndShutdown(absl::Duration join_timeout) {
  worker_.CheckOk(agent_->JoinForShutdown(worker_.In(join_timeout)),
                  "join-for-shutdown");
  worker_.CheckOk(Shutdown(absl::Seconds(10)), "shutdown");
}

}  // namespace reprise::scenarios
