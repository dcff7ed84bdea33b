// What an agent is told at its start.

#ifndef REPRISE_AGENT_OPTIONS_H_
#define REPRISE_AGENT_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/transport/transports.h"

namespace reprise {

using WorkerId = int16_t;

struct WorkerInfo {
  std::string name;
  WorkerId id = 0;
  friend bool operator==(const WorkerInfo&, const WorkerInfo&) = default;
};

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
