#include "agent/pending_reply.h"

#include <utility>

#include "absl/strings/cord.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// Tells a dropped reply from an error that a handler answers with.
constexpr char kUnansweredMark[] = "reprise/unanswered";

}  // namespace

PendingReply::PendingReply(std::shared_ptr<Sender> sender,
                           std::shared_ptr<ServerPipe> pipe, int64_t call_id,
                           std::shared_ptr<IdempotentCalls::Run> run,
                           Activity::Token active)
    : sender_(std::move(sender)),
      pipe_(std::move(pipe)),
      call_id_(call_id),
      run_(std::move(run)),
      active_(std::move(active)) {}

PendingReply::~PendingReply() {
  if (state_ != kAnswered) Send(UnansweredError());
}

void PendingReply::Answer(absl::StatusOr<Message> result) {
  if (!result.ok() && result.status().GetPayload(kUnansweredMark)) {
    State expected = kHandlerRuns;
    if (state_.compare_exchange_strong(expected, kDropped)) return;
  }
  Send(std::move(result));
}

void PendingReply::HandlerReturned() {
  State expected = kHandlerRuns;
  if (state_.compare_exchange_strong(expected, kHandlerReturned)) return;
  if (expected == kDropped) Send(UnansweredError());
}

void PendingReply::HandlerThrew(absl::Status error) {
  if (state_ == kAnswered) {
    LOG(WARNING) << "a handler answered call " << call_id_
                 << " and then threw: " << error;
  }
  Send(std::move(error));
}

void PendingReply::Send(absl::StatusOr<Message> result) {
  if (state_.exchange(kAnswered) == kAnswered) return;
  sender_->SendReply(*pipe_, call_id_, run_, std::move(result));
  active_.Release();
}

absl::Status PendingReply::UnansweredError() {
  absl::Status status = absl::InternalError("the handler gave no answer");
  status.SetPayload(kUnansweredMark, absl::Cord());
  return status;
}

}  // namespace reprise
