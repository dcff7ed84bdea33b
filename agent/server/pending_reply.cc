#include "agent/server/pending_reply.h"

#include <utility>

#include "glog/logging.h"

namespace reprise {

PendingReply::PendingReply(std::shared_ptr<Sender> sender,
                           std::shared_ptr<ServerPipe> pipe, int64_t call_id,
                           std::shared_ptr<IdempotentCalls::Run> run,
                           Activity::Token active, Admission::Slot slot)
    : sender_(std::move(sender)),
      pipe_(std::move(pipe)),
      call_id_(call_id),
      run_(std::move(run)),
      active_(std::move(active)),
      slot_(std::move(slot)) {}

PendingReply::~PendingReply() {
  if (state_ != kAnswered) Send(Reply::UnansweredError());
}

void PendingReply::Answer(absl::StatusOr<Message> result) {
  if (Reply::IsUnanswered(result.status())) {
    State expected = kHandlerRuns;
    if (state_.compare_exchange_strong(expected, kDropped)) return;
  }
  Send(std::move(result));
}

void PendingReply::HandlerReturned() {
  State expected = kHandlerRuns;
  if (state_.compare_exchange_strong(expected, kHandlerReturned)) return;
  if (expected == kDropped) Send(Reply::UnansweredError());
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
  sender_->SendReply(*pipe_, call_id_, run_, route_, std::move(result));
  active_.Release();
}

}  // namespace reprise
