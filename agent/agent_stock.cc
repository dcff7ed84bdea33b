// What an agent says to PyTorch's workers, and answers them, without the user's
// handler.

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/agent_impl.h"
#include "agent/call_error.h"
#include "agent/python/membership_calls.h"
#include "agent/python/pytorch_only.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// How long the answer to a member that joins or leaves may wait until we know
// of it. The store may be slow, and the member waits.
constexpr absl::Duration kToLearnOfChange = absl::Seconds(5);

}  // namespace

void Agent::Impl::Handle(Message request, const RequestInfo& info,
                         Reply reply) {
  if (!options_.raw_pytorch_requests) {
    std::optional<absl::StatusOr<Message>> answer =
        AnswerPyTorchOnly(request, workers_.self().name);
    if (answer.has_value()) {
      return reply(answer->ok() ? *std::move(answer)
                                : RefusedByAgent(answer->status()));
    }
  }
  if (workers_.is_dynamic()) {
    const absl::StatusOr<std::optional<MembershipCall>> call =
        ParseMembershipCall(request);
    if (!call.ok()) return reply(call.status());
    if (call->has_value()) return reply(ServeMembership(**call, info));
  }
  gate_->Handle(std::move(request), info, std::move(reply));
}

absl::StatusOr<Message> Agent::Impl::ServeMembership(const MembershipCall& call,
                                                     const RequestInfo& info) {
  if (call.kind == MembershipCall::Kind::kGetDeviceInfos) {
    return DeviceInfosReply(
        {options_.device_maps, options_.devices, options_.device_count});
  }
  const bool is_join = call.kind == MembershipCall::Kind::kJoin;
  if (call.worker.name != info.caller) {
    return absl::PermissionDeniedError(
        absl::StrCat(info.caller, " cannot say that ", call.worker.name,
                     is_join ? " joins" : " leaves"));
  }
  VLOG(1) << call.worker.name << " tells that it "
          << (is_join ? "joins" : "leaves");
  const absl::Time until =
      std::min(info.deadline, runtime_.Now() + kToLearnOfChange);
  if (is_join) {
    membership_.StockJoined(call.worker, until);
  } else {
    membership_.StockLeft(call.worker, until);
  }
  return MembershipReply();
}

}  // namespace reprise
