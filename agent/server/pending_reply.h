// The answer that one request is owed: given exactly once, whoever gives it.
//
// The user's `Reply`, an exception out of the handler, and a `Reply` that was
// dropped can meet. While the handler runs, a dropped `Reply` waits for what
// becomes of the handler: an exception says more.

#ifndef REPRISE_AGENT_SERVER_PENDING_REPLY_H_
#define REPRISE_AGENT_SERVER_PENDING_REPLY_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/activity.h"
#include "agent/message.h"
#include "agent/request.h"
#include "agent/server/idempotency.h"
#include "agent/server/server_pipe.h"

namespace reprise {

// Thread-safe. May outlive the agent: it then answers nobody.
class PendingReply {
 public:
  // Who writes the answers. Kept alive, also after its agent has gone.
  class Sender {
   public:
    virtual ~Sender() = default;
    // `run` is null unless the call has an idempotency key.
    virtual void SendReply(ServerPipe& pipe, int64_t call_id,
                           const std::shared_ptr<IdempotentCalls::Run>& run,
                           absl::StatusOr<Message> result) = 0;
  };

  PendingReply(std::shared_ptr<Sender> sender, std::shared_ptr<ServerPipe> pipe,
               int64_t call_id, std::shared_ptr<IdempotentCalls::Run> run,
               Activity::Token active);
  ~PendingReply();

  void Answer(absl::StatusOr<Message> result);

  // One of them is called, once.
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
  std::atomic<State> state_ = kHandlerRuns;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_SERVER_PENDING_REPLY_H_
