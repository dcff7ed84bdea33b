// `Reply` and `Blocking` of agent.h.

#include <functional>
#include <utility>

#include "absl/status/statusor.h"
#include "agent/agent.h"
#include "agent/pending_reply.h"

namespace reprise {

Reply::Reply(Send send) : send_(std::move(send)) {}

Reply::~Reply() {
  if (send_) (*this)(PendingReply::UnansweredError());
}

void Reply::operator()(absl::StatusOr<Message> result) {
  if (Send send = std::exchange(send_, nullptr)) send(std::move(result));
}

RequestHandler Blocking(
    std::function<absl::StatusOr<Message>(Message, const RequestInfo&)>
        function) {
  return [function = std::move(function)](
             Message request, const RequestInfo& info, Reply reply) {
    reply(function(std::move(request), info));
  };
}

}  // namespace reprise
