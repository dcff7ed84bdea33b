// What an agent says to PyTorch's workers, and answers them, without the user's
// handler.

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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

// A call ends at its deadline, a little later when the machine is busy.
constexpr absl::Duration kToEndCalls = absl::Milliseconds(100);

// More than a machine has.
constexpr int kMostGpus = 64;

constexpr int kMostMembershipWaits = 2;

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
    // Our maps are not said: the worker would spread them over all stock
    // members, and keep them there after we have left; see `StockCall`.
    return DeviceInfosReply({.maps = {},
                             .devices = options_.devices,
                             .count = options_.device_count});
  }
  const bool is_join = call.kind == MembershipCall::Kind::kJoin;
  if (call.worker.name != info.caller) {
    return absl::PermissionDeniedError(
        absl::StrCat(info.caller, " cannot say that ", call.worker.name,
                     is_join ? " joins" : " leaves"));
  }
  VLOG(1) << call.worker.name << " tells that it "
          << (is_join ? "joins" : "leaves");
  // Handlers need the threads, so few may wait here. The others are answered at
  // once; the next look at the list shows what they have told.
  const bool waits = ++membership_waits_ <= kMostMembershipWaits;
  const absl::Time until =
      waits ? std::min(info.deadline, runtime_.Now() + kToLearnOfChange)
            : runtime_.Now();
  if (is_join) {
    membership_.StockJoined(call.worker, until);
  } else {
    membership_.StockLeft(call.worker, until);
  }
  --membership_waits_;
  return MembershipReply();
}

Message Agent::Impl::StockCall(const DynamicGroup::StockNews& news) {
  std::vector<Device> devices;
  std::map<std::string, DeviceMap> maps;
  if (!news.is_join) {
    // At a leave, a stock worker takes away all devices and maps that it is not
    // told to keep, whosever they are; and if there are such maps, it crashes.
    // So it is told to keep whatever it may have. It has maps of members only,
    // since a stock member that has left before has crashed it.
    for (int i = 0; i < kMostGpus; ++i) devices.push_back({"cuda", i});
    maps[news.worker.name] = {};
    for (const std::string& name : news.all_others) maps[name] = {};
  }
  return MakeMembershipCall(news.worker, devices, maps, news.is_join);
}

std::vector<WorkerInfo> Agent::Impl::TellStock(
    const DynamicGroup::StockNews& news, absl::Time deadline) {
  std::vector<WorkerInfo> suspects;
  // They may call us before `Start` returns, and we them.
  if (news.is_join) workers_.SetSelf(news.worker.id);
  const absl::Duration time_left = deadline - runtime_.Now();
  if (time_left <= absl::ZeroDuration()) {
    LOG(WARNING) << "no time is left to tell PyTorch's workers that "
                 << news.worker.name << (news.is_join ? " joins" : " leaves");
    return suspects;
  }
  const CallOptions options{.timeout = time_left, .detached = true};
  std::vector<std::pair<const WorkerInfo*, Future>> calls;
  for (const WorkerInfo& stock : news.to) {
    MemberPtr to = workers_.Find(stock.name);
    if (to == nullptr || to->id != stock.id) {
      auto member = std::make_shared<Member>();
      static_cast<WorkerInfo&>(*member) = stock;
      to = std::move(member);
    }
    calls.emplace_back(&stock, Send(to, StockCall(news), options));
  }
  for (const auto& [stock, call] : calls) {
    call.Wait(deadline + kToEndCalls);
    absl::Status status = absl::DeadlineExceededError("it does not answer");
    if (call.done()) status = call.status();
    if (status.ok()) status = ReadMembershipReply(*call.result());
    if (absl::IsCancelled(status)) continue;  // by our own shutdown
    LOG_IF(WARNING, !status.ok())
        << "PyTorch's worker " << stock->name << " was not told that "
        << news.worker.name << (news.is_join ? " joins" : " leaves") << ": "
        << status;
    if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) {
      suspects.push_back(*stock);
    }
  }
  return suspects;
}

}  // namespace reprise
