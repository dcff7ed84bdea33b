// What an agent tells of itself as it happens: for logs, traces and checks.

#ifndef REPRISE_AGENT_OBSERVER_H_
#define REPRISE_AGENT_OBSERVER_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/message.h"
#include "agent/worker_info.h"

namespace reprise {

// Called on whatever thread the event happens on, several at a time, with no
// lock of the agent's held. Implementations must be quick, must not block and
// must not call the agent. The default does nothing.
class Observer {
 public:
  virtual ~Observer() = default;

  // The caller's side. `call_id` is the id on the wire, unique per agent.
  // Each started call is completed exactly once; refused calls are neither.
  virtual void OnCallStarted(WorkerId /*to*/, int64_t /*call_id*/,
                             const Message& /*request*/,
                             absl::Time /*deadline*/) {}
  // `reply` is null unless `status` is OK.
  virtual void OnCallCompleted(WorkerId /*to*/, int64_t /*call_id*/,
                               const absl::Status& /*status*/,
                               const Message* /*reply*/) {}
  // A reply to a call that was completed before (timed out, cancelled).
  virtual void OnLateReply(WorkerId /*from*/, int64_t /*call_id*/) {}

  // The server's side. `caller` is the name that the peer claims.
  virtual void OnRequest(std::string_view /*caller*/, int64_t /*call_id*/,
                         const Message& /*request*/) {}
  virtual void OnReply(std::string_view /*caller*/, int64_t /*call_id*/,
                       const absl::Status& /*status*/,
                       const Message* /*reply*/) {}

  // Connections. `what` is "connecting", "connected", "failed", "accepted",
  // "closed"; `peer` a name.
  virtual void OnPipe(std::string_view /*what*/, std::string_view /*peer*/,
                      const absl::Status& /*status*/) {}
  // `address` is what was published in the store.
  virtual void OnListening(std::string_view /*address*/) {}
  virtual void OnListenerFailed(const absl::Status& /*status*/) {}

  // Barriers, by their number on the store, from 1.
  virtual void OnBarrierEntered(int64_t /*barrier*/) {}
  virtual void OnBarrierLeft(int64_t /*barrier*/,
                             const absl::Status& /*status*/) {}

  // Another worker came to a dynamic group, or went from it.
  virtual void OnMember(std::string_view /*name*/, WorkerId /*id*/,
                        bool /*joined*/) {}

  // Nothing but this comes after it.
  virtual void OnShutdown() {}
};

}  // namespace reprise

#endif  // REPRISE_AGENT_OBSERVER_H_
