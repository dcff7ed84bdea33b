#include "agent/request.h"

#include <functional>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/cord.h"

namespace reprise {
namespace {

// Tells a dropped reply from an error that a handler answers with.
constexpr char kUnansweredMark[] = "reprise/unanswered";
constexpr char kMayRunAgainMark[] = "reprise/may-run-again";

}  // namespace

Reply::Reply(Send send) : send_(std::move(send)) {}

Reply::~Reply() {
  if (send_) (*this)(UnansweredError());
}

void Reply::operator()(absl::StatusOr<Message> result) {
  if (Send send = std::exchange(send_, nullptr)) send(std::move(result));
}

absl::Status Reply::UnansweredError() {
  absl::Status status = absl::InternalError("the handler gave no answer");
  status.SetPayload(kUnansweredMark, absl::Cord());
  return status;
}

bool Reply::IsUnanswered(const absl::Status& status) {
  return status.GetPayload(kUnansweredMark).has_value();
}

absl::Status MayRunAgain(absl::Status error) {
  error.SetPayload(kMayRunAgainMark, absl::Cord());
  return error;
}

bool IsMayRunAgain(const absl::Status& status) {
  return status.GetPayload(kMayRunAgainMark).has_value();
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
