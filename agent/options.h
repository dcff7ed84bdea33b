// What an agent is told at its start.

#ifndef REPRISE_AGENT_OPTIONS_H_
#define REPRISE_AGENT_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/device/device.h"
#include "agent/transport/transports.h"

namespace reprise {

using WorkerId = int16_t;

struct WorkerInfo {
  std::string name;
  WorkerId id = 0;
  friend bool operator==(const WorkerInfo&, const WorkerInfo&) = default;
};

// A worker came to, or went from, a dynamic group.
struct MembershipChange {
  WorkerInfo worker;
  bool joined = false;
};

// Ours -> theirs.
using DeviceMap = std::map<Device, Device>;

// As `AgentOptions::world_size`: members come and go (docs/groups.md).
inline constexpr int64_t kDynamicGroup = 0;
// As `AgentOptions::id`, in a dynamic group: the lowest that is free.
inline constexpr int64_t kAnyId = -1;

struct AgentOptions {
  std::string name;  // [A-Za-z0-9-_:]+, under 128 characters
  int64_t id = 0;    // rank, 0 .. world_size - 1, and at most 32767
  int64_t world_size = 1;

  int num_worker_threads = 16;
  // Timeout of calls that name none. 0: never.
  absl::Duration rpc_timeout = absl::Seconds(60);
  TransportOptions transport;
  // A further call to a peer with so many pending is refused.
  size_t max_pending_calls_per_peer = 65536;
  // A new connection that carried nothing by then has failed.
  absl::Duration connect_timeout = absl::Seconds(30);
  // Every single access to the store.
  absl::Duration store_timeout = absl::Seconds(30);

  // In a dynamic group: how often to look who is there,
  absl::Duration membership_refresh = absl::Seconds(2);
  // after what time a member that stopped in the middle of its join or leave is
  // pushed aside,
  absl::Duration token_lease = absl::Seconds(10);
  // and what to call for each join and leave after the start, ours excepted. It
  // runs on a thread of its own, one at a time, and must not shut the agent
  // down.
  std::function<void(const MembershipChange&)> on_membership_change;

  // By the other worker's name: where tensors sent to it shall arrive. Checked
  // and published, not yet used. The map of the way back is made from what the
  // others publish, in dynamic groups.
  std::map<std::string, DeviceMap> device_maps;
  std::vector<Device> devices;  // empty: those of the maps
  int device_count = -1;        // of this machine; -1: not checked
};

// Either OK, or INVALID_ARGUMENT with PyTorch's text where it has one
// ("num_worker_threads must be positive, got 0").
absl::Status Validate(const AgentOptions& options);

inline constexpr absl::Duration kUnsetTimeout = -absl::Seconds(1);

struct CallOptions {
  // kUnsetTimeout: the agent's rpc_timeout. 0 or infinite: never. Any other
  // value is honoured to the nanosecond, never early.
  absl::Duration timeout = kUnsetTimeout;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_OPTIONS_H_
