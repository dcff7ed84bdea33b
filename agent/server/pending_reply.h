// The answer that one request is owed. It is given exactly once, by whichever
// comes first: the user's `Reply`, an exception that leaves the handler, or the
// destruction of an unused `Reply`. An unused `Reply` that is destroyed while
// the handler runs counts only once the handler has returned, because an
// exception of the handler says more.

#ifndef REPRISE_AGENT_SERVER_PENDING_REPLY_H_
#define REPRISE_AGENT_SERVER_PENDING_REPLY_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/activity.h"
#include "agent/device/device_map.h"
#include "agent/device/stream_set.h"
#include "agent/message.h"
#include "agent/request.h"
#include "agent/server/admission.h"
#include "agent/server/idempotency.h"
#include "agent/server/server_pipe.h"

namespace reprise {

// Where the tensors of a reply go, and when they are ready.
struct ReplyRoute {
  DeviceMap map = {};  // from our devices to the caller's
  // The handler's, for devices of which the reply names no stream.
  StreamSet streams = {};
};

// Thread-safe. It may outlive the agent, and then answers nobody.
class PendingReply {
 public:
  // Writes the answers. It is kept alive, also after its agent has gone.
  class Sender {
   public:
    virtual ~Sender() = default;
    // `run` is null unless the call has an idempotency key.
    virtual void SendReply(ServerPipe& pipe, int64_t call_id,
                           const std::shared_ptr<IdempotentCalls::Run>& run,
                           const ReplyRoute& route,
                           absl::StatusOr<Message> result) = 0;
  };

  PendingReply(std::shared_ptr<Sender> sender, std::shared_ptr<ServerPipe> pipe,
               int64_t call_id, std::shared_ptr<IdempotentCalls::Run> run,
               Activity::Token active, Admission::Slot slot);
  ~PendingReply();

  // Before the handler runs. A reply that it does not concern needs none.
  void SetRoute(ReplyRoute route) { route_ = std::move(route); }

  void Answer(absl::StatusOr<Message> result);

  // Exactly one of these two is called, once.
  void HandlerReturned();
  void HandlerThrew(absl::Status error);

 private:
  enum State { kHandlerRuns, kDropped, kHandlerReturned, kAnswered };

  void Send(absl::StatusOr<Message> result);

  const std::shared_ptr<Sender> sender_;
  const std::shared_ptr<ServerPipe> pipe_;
  const int64_t call_id_;
  const std::shared_ptr<IdempotentCalls::Run> run_;
  Activity::Token active_;
  // Until the handler has returned and the request was answered: both keep
  // this object, and with it the request counts as running.
  const Admission::Slot slot_;
  ReplyRoute route_;
  std::atomic<State> state_ = kHandlerRuns;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_SERVER_PENDING_REPLY_H_
