// The Python functions by which PyTorch's workers announce themselves in a
// dynamic group, as calls and replies.
//
// A worker that joins asks each member for its devices
// (`torch.distributed.rpc.backend_registry._get_device_infos`) and then tells
// each of itself (`torch.distributed.rpc._utils._update_group_membership`); one
// that leaves tells each of that. If a member does not answer, the worker's
// `init_rpc` or `shutdown` raises. Seen with PyTorch 1.13.1.

#ifndef REPRISE_AGENT_PYTHON_MEMBERSHIP_CALLS_H_
#define REPRISE_AGENT_PYTHON_MEMBERSHIP_CALLS_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/device.h"
#include "agent/device/device_map.h"
#include "agent/message.h"
#include "agent/worker_info.h"

namespace reprise {

// One of these calls, as it was received.
struct MembershipCall {
  enum class Kind {
    kGetDeviceInfos,
    kJoin,
    kLeave,
  };
  Kind kind = Kind::kGetDeviceInfos;
  WorkerInfo worker;  // who joins or leaves; the name is a worker's name
};

// Nothing if `request` is another message. INVALID_ARGUMENT if it calls one of
// these functions with arguments that it does not have. What it says of devices
// is not read: our requests and replies say themselves where tensors go.
absl::StatusOr<std::optional<MembershipCall>> ParseMembershipCall(
    const Message& request);

// The reply to kJoin and kLeave.
Message MembershipReply();
// The reply to kGetDeviceInfos. Unless `device_count` is known (not negative),
// there are as many as `info` names.
Message DeviceInfosReply(const DeviceInfo& info);

// What a reply to a call of `_update_group_membership` says: OK, or the error
// of the worker that was told.
absl::Status ReadMembershipReply(const Message& reply);

// The call of `_update_group_membership`. `devices` and `reverse_maps` are what
// the receiver adds to its own at a join, and what it keeps of its own at a
// leave.
Message MakeMembershipCall(const WorkerInfo& worker,
                           const std::vector<Device>& devices,
                           const std::map<std::string, DeviceMap>& reverse_maps,
                           bool is_join);

}  // namespace reprise

#endif  // REPRISE_AGENT_PYTHON_MEMBERSHIP_CALLS_H_
