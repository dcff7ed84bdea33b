// The options of an agent, read once at its start. Sizes are in bytes; the
// functions that a user gives are called on threads of the agent's and must not
// shut it down.

#ifndef REPRISE_AGENT_OPTIONS_H_
#define REPRISE_AGENT_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/call_options.h"
#include "agent/device/caching_allocator.h"
#include "agent/device/device.h"
#include "agent/device/device_map.h"
#include "agent/server_bounds.h"
#include "agent/transport/transports.h"
#include "agent/worker_info.h"

namespace reprise {

// What becomes of a call to a peer with too much pending.
enum class WhenFull {
  kRefuse,  // RESOURCE_EXHAUSTED
  kBlock,   // `Send` waits until there is room, at most until the call's
            // deadline; in a callback it does not wait, but refuses
};

// News of a connection to a peer.
struct PeerChange {
  std::string name;
  WorkerId id = 0;
  bool up = false;
  absl::Status cause;  // not OK when the connection failed
};

struct AgentOptions {
  std::string name;  // [A-Za-z0-9-_:]+, under 128 characters
  // In a static group 0 .. world_size - 1; in a dynamic one any free id up to
  // 32767, or kAnyId.
  int64_t id = 0;
  // The number of workers, or kDynamicGroup.
  int64_t world_size = 1;

  int num_worker_threads = 16;
  // Timeout of calls that name none. 0: never.
  absl::Duration rpc_timeout = absl::Seconds(60);
  TransportOptions transport;
  // When so many calls to a peer are pending, a further one is refused.
  size_t max_pending_calls_per_peer = 65536;
  // The same for the bytes of requests that wait for their replies, and of
  // requests that wait to be written. A single request may exceed it.
  size_t max_pending_bytes_per_peer = size_t{1} << 30;
  // What becomes of a further call then.
  WhenFull when_full = WhenFull::kRefuse;
  // A message beyond these is neither sent nor accepted.
  size_t max_payload_bytes = size_t{256} << 20;
  size_t max_tensor_bytes = size_t{64} << 30;
  // A new connection whose peer has not answered by then has failed.
  absl::Duration connect_timeout = absl::Seconds(30);
  // After a connection failed the next attempt is made at once; while attempts
  // go on failing, after pauses that double from the one to the other.
  absl::Duration shortest_reconnect_pause = absl::Milliseconds(10);
  absl::Duration longest_reconnect_pause = absl::Seconds(5);
  // A peer is asked for a sign of life every interval while calls to it are
  // pending, and else every bound. When not a byte has come from it for the
  // bound although it was asked, its calls are UNAVAILABLE. With an interval of
  // 0 no peer is asked. Stock workers are never asked.
  absl::Duration keepalive_interval = absl::Seconds(5);
  absl::Duration keepalive_bound = absl::Seconds(15);
  // What is remembered, as a server, of calls with an idempotency key: how many
  // of all callers, the bytes of their replies, and for how long.
  size_t max_idempotent_calls = size_t{1} << 18;
  size_t max_idempotent_bytes = size_t{256} << 20;
  absl::Duration idempotency_memory = absl::Minutes(10);
  // How many of one caller, by its name, and the bytes of their replies.
  size_t max_idempotent_calls_per_caller = 65536;
  size_t max_idempotent_bytes_per_caller = size_t{64} << 20;
  // Requests of at least so many bytes, and calls of Lane::kBulk, go over a
  // second connection to their peer, opened on first use, so that small calls
  // do not wait behind them.
  size_t bulk_bytes = size_t{1} << 20;
  // Where the tensors that are received lie. Null: a `CachingAllocator` of the
  // agent's own that keeps at most `max_cached_bytes` for reuse. With
  // `max_cached_bytes` = 0 nothing is kept.
  std::shared_ptr<CpuAllocator> allocator = nullptr;
  size_t max_cached_bytes = size_t{512} << 20;
  // True: requests wait until `Agent::Serve` is called, so that a handler may
  // need what is only there after `Start`.
  bool start_paused = false;
  // Requests of PyTorch's RRefs, distributed autograd and profiler, which only
  // a worker with PyTorch can serve (docs/pytorch.md). False: the agent answers
  // them, those that want something with UNIMPLEMENTED. True: they reach the
  // handler, as bytes.
  bool raw_pytorch_requests = false;
  // Called when a connection of ours to a peer begins to work (`up`), and when
  // one that worked has failed; not when the agent closes it. Runs on the
  // threads that run callbacks of futures, perhaps on several at a time.
  std::function<void(const PeerChange&)> on_peer_change = nullptr;
  // Called when others have evicted this member of a dynamic group, because
  // they took it for dead: nobody finds it any more. `Shutdown` should follow,
  // on another thread. Runs on the thread of `on_membership_change`.
  std::function<void(const absl::Status&)> on_evicted = nullptr;
  // Whether the PyTorch of all stock workers in the group has the types of
  // elements that came after 1.13: uint16, uint32, uint64 and float8. A worker
  // that lacks one ends its process when it is sent one, so a call with such a
  // tensor to a stock worker is FAILED_PRECONDITION unless this is set, and a
  // reply to one only if that has sent such a tensor itself.
  bool stock_workers_know_later_types = false;
  // The timeout of every single access to the store.
  absl::Duration store_timeout = absl::Seconds(30);
  // How much is held for workers that call this one.
  ServerBounds server_bounds;

  // How often a member of a dynamic group reads the list of members.
  absl::Duration membership_refresh = absl::Seconds(2);
  // After this time a member that stopped in the middle of its join or leave is
  // pushed aside.
  absl::Duration token_lease = absl::Seconds(10);
  // Called for each join and leave after the start, except our own. It
  // runs on a thread of its own, one at a time, and must not shut the agent
  // down.
  std::function<void(const MembershipChange&)> on_membership_change;

  // By the other worker's name: where tensors sent to it shall arrive, one to
  // one (docs/devices.md). A reply goes the way back. Checked against what the
  // others publish.
  std::map<std::string, DeviceMap> device_maps;
  // The GPUs that may be used, by peers too. Empty: all that there are.
  std::vector<Device> devices;
  // How many GPUs this machine has. -1: as many as `Environment::devices` has,
  // and not checked if that is null.
  int device_count = -1;
};

// Either OK, or INVALID_ARGUMENT with PyTorch's text where it has one
// ("num_worker_threads must be positive, got 0").
absl::Status Validate(const AgentOptions& options);

}  // namespace reprise

#endif  // REPRISE_AGENT_OPTIONS_H_
