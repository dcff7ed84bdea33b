// A worker's agent whose handler echoes, and the checks that hold in every
// scenario:
//
//  content         requests and replies are, byte for byte, what was sent
//  addressee       no call comes to another worker than its `CallSpec` says
//  at-most-once    no call runs the handler twice
//  after-shutdown  no handler and no callback runs once `Shutdown` has returned
//                  OK
//  called-back     the callbacks of a call have run, each once, when `Shutdown`
//                  has returned OK
//  nested          calls of a handler end with the request that it serves, or
//                  at most the parameter `slack_ms` later (5 s without one)
//  nothing-left    then no call, timer, pipe, request or reply is left, nor
//                  does any count as waiting, running or unwritten

#ifndef REPRISE_TESTS_SCENARIOS_ECHO_AGENT_H_
#define REPRISE_TESTS_SCENARIOS_ECHO_AGENT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"

namespace reprise::scenarios {

// Checks the rule `nothing-left` on the metrics of an agent after its shutdown.
void CheckNothingIsLeft(Worker& worker,
                        const std::map<std::string, int64_t>& metrics);

// Thread-safe. Must not outlive its worker.
class EchoAgent {
 public:
  // Returns the status of `Agent::Start` if that fails. `life` is the number of
  // agents that this incarnation of the worker has started before.
  static absl::StatusOr<std::unique_ptr<EchoAgent>> Start(
      Worker& worker, const AgentOptions& options, absl::Time deadline,
      int life = 0);
  ~EchoAgent();

  Agent& agent() { return *agent_; }

  // A call that differs from every other call of every worker.
  CallSpec NewCall();

  Future Send(int to, const CallSpec& spec,
              absl::Duration timeout = kUnsetTimeout);
  Future Send(std::string_view to, const CallSpec& spec,
              absl::Duration timeout = kUnsetTimeout);

  // Waits for the call, checks the reply, and returns the call's status.
  absl::Status Await(const Future& call, const CallSpec& spec);
  absl::Status Call(int to, const CallSpec& spec,
                    absl::Duration timeout = kUnsetTimeout) {
    return Await(Send(to, spec, timeout), spec);
  }

  // The rule `called-back` watches over it.
  void Then(const Future& call, Future::Callback callback);

  int64_t Metric(std::string_view name) const;

  // Returns the status of `Agent::Shutdown`. When handlers or callbacks still
  // ran at its deadline, waits for them with a second one. `took` is how long
  // the first one took.
  absl::Status Shutdown(absl::Duration timeout, absl::Duration* took = nullptr);

  // What a worker does last if all is well. Both must succeed.
  void JoinAndShutdown(absl::Duration join_timeout);

 private:
  struct State;
  EchoAgent(Worker& worker, std::shared_ptr<State> state,
            std::unique_ptr<Agent> agent);

  Worker& worker_;
  const std::shared_ptr<State> state_;
  const std::unique_ptr<Agent> agent_;
};

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_SCENARIOS_ECHO_AGENT_H_
