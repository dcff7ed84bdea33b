// What an agent tells of itself as it happens: for logs, traces and checks.
//
// The application implements an `Observer` and gives it to `Agent::Start` in
// the environment. The observer must outlive the agent.

#ifndef REPRISE_AGENT_OBSERVER_H_
#define REPRISE_AGENT_OBSERVER_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/message.h"
#include "agent/worker_info.h"

namespace reprise {

// What happened to a connection of the agent.
enum class PipeEvent : uint8_t {
  kConnecting,  // we begin to open a connection to call the peer
  kConnected,   // that connection carries calls
  kAccepted,    // the peer has opened a connection to call us
  kFailed,      // a connection of either kind failed; the status says why
  kClosed,      // we closed one, because the agent shuts down
};

// Each function is called on the thread on which the event happens. Several
// may be called at the same time, and no lock of the agent's is held meanwhile.
// An implementation must be quick, must not block and must not call the agent.
// By default the functions do nothing.
class Observer {
 public:
  virtual ~Observer() = default;

  // The caller's side. `call_id` is the id on the wire and is unique in an
  // agent; `label` is the call's, which may be empty. Each call that was
  // started is completed exactly once. A call that was refused is neither
  // started nor completed.
  virtual void OnCallStarted(WorkerId /*to*/, int64_t /*call_id*/,
                             const Message& /*request*/,
                             absl::Time /*deadline*/,
                             std::string_view /*label*/) {}
  // `reply` is null unless `status` is OK.
  virtual void OnCallCompleted(WorkerId /*to*/, int64_t /*call_id*/,
                               const absl::Status& /*status*/,
                               const Message* /*reply*/) {}
  // An attempt of `Agent::SendWithRetries` has failed, and the request is sent
  // again as the call `call_id`, which may start now. `first_call_id` is that
  // of the first attempt.
  virtual void OnCallRetried(WorkerId /*to*/, int64_t /*call_id*/,
                             int64_t /*first_call_id*/) {}
  // A reply came to a call that had been completed before, because it timed
  // out or was cancelled.
  virtual void OnLateReply(WorkerId /*from*/, int64_t /*call_id*/) {}

  // The server's side. `caller` is the name that the peer claims.
  virtual void OnRequest(std::string_view /*caller*/, int64_t /*call_id*/,
                         const Message& /*request*/) {}
  virtual void OnReply(std::string_view /*caller*/, int64_t /*call_id*/,
                       const absl::Status& /*status*/,
                       const Message* /*reply*/) {}

  // Connections. `peer` is the name of the worker at the other end, as it
  // claims it. `status` is OK unless `event` is kFailed.
  virtual void OnPipe(PipeEvent /*event*/, std::string_view /*peer*/,
                      const absl::Status& /*status*/) {}
  // The agent listens, and has published `address` in the store.
  virtual void OnListening(std::string_view /*address*/) {}
  virtual void OnListenerFailed(const absl::Status& /*status*/) {}

  // This worker entered or left a barrier. Barriers are numbered from 1, as in
  // the store.
  virtual void OnBarrierEntered(int64_t /*barrier*/) {}
  virtual void OnBarrierLeft(int64_t /*barrier*/,
                             const absl::Status& /*status*/) {}

  // This agent has learned that another worker joined or left its dynamic
  // group.
  virtual void OnMember(std::string_view /*name*/, WorkerId /*id*/,
                        bool /*joined*/) {}

  // The agent has shut down. Of the other functions only `OnNote` is called
  // after this one.
  virtual void OnShutdown() {}

  // The service says something of its own, by `Agent::Note` or directly, for
  // whoever reads the log or the story of a run. On any thread, also after the
  // shutdown.
  virtual void OnNote(std::string_view /*text*/) {}
};

}  // namespace reprise

#endif  // REPRISE_AGENT_OBSERVER_H_
