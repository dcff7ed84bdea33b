// What a single call is told: its name, its time, its key, its retries,
// and where its reply goes.

#ifndef REPRISE_AGENT_CALL_OPTIONS_H_
#define REPRISE_AGENT_CALL_OPTIONS_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/device/device.h"
#include "agent/device/device_map.h"

namespace reprise {

inline constexpr absl::Duration kUnsetTimeout = -absl::Seconds(1);

// Which of an agent's connections to a peer carries a call. A message is
// carried whole before the next one of its connection.
enum class Lane {
  kBySize,    // by the size of the request: AgentOptions::bulk_bytes
  kPriority,  // that of small messages
  kBulk,      // that of large ones: for a small request with a large reply
};

inline constexpr size_t kMaxCallLabel = 64;

// Memory of the caller's for the tensors of a reply. When the call has
// succeeded, its tensors lie there, and nobody writes to it any more.
//
// A call that has failed, timed out or been cancelled may leave a reply behind
// that is still being written there. The memory must then stay, and must not be
// used, until `release_guard` is dropped, or the storages are, whichever is
// convenient: `AdoptCpu` calls its deleter. That is soon, unless the reply is
// just arriving: then it is when the reply has arrived or its connection has
// failed, and at the latest when the agent has shut down.
struct ReceiveInto {
  // The i-th storage of the reply that arrives on the CPU goes to the beginning
  // of the i-th of these, which are on a CPU and do not overlap. Tensors that
  // share a storage at their sender share it here. When the reply has more
  // storages, or a larger one, the call fails with RESOURCE_EXHAUSTED.
  std::vector<std::shared_ptr<Storage>> storages = {};
  // As `Message::release_guard`, for what is written instead of read: dropped
  // when the agent writes to the storages no more. May be null.
  std::shared_ptr<void> release_guard = nullptr;
};

struct CallOptions {
  // kUnsetTimeout: the agent's rpc_timeout. 0 or infinite: never. Any other
  // value is honoured to the nanosecond, never early.
  absl::Duration timeout = kUnsetTimeout;
  // At most 128 bytes. Not empty: however often calls with this key come from
  // this agent, over whatever connections, the peer runs its handler once, and
  // answers all of them with its result. FAILED_PRECONDITION from a peer that
  // does not know how. See docs/calls.md for how long it remembers.
  std::string idempotency_key = {};
  // The call, with all its retries, ends by then, whatever its timeout.
  absl::Time deadline = absl::InfiniteFuture();
  // A call that a handler makes on its own thread ends with the request that
  // the handler serves, at the latest. True: it does not, because its result is
  // for others than the caller of that request. On other threads use
  // `RequestInfo::Inherit`.
  bool detached = false;
  Lane lane = Lane::kBySize;
  // A short name of the call for people, such as "push": at most
  // `kMaxCallLabel` printable ASCII characters. It stands in the call's error
  // texts, in log lines, and in what observers are told. It is not sent.
  std::string label = {};
  // Without storages the agent's allocator says where the reply lies
  // (AgentOptions::allocator). All attempts of a call share this memory; calls
  // that are pending at the same time must not.
  ReceiveInto receive_into = {};
  // Not empty: in place of `AgentOptions::device_maps` for this call. From our
  // devices to those of the called worker, one to one. Its reply goes the way
  // back, if it is an agent of this project.
  DeviceMap device_map = {};
};

// The texts of errors are PyTorch's where it has one.
struct RetryOptions {
  int max_retries = 5;
  // Before the first retry; each further one waits `backoff` times as long, up
  // to `max_pause`. The backoff is in [1, 100].
  absl::Duration retry_duration = absl::Seconds(1);
  double backoff = 1.5;
  absl::Duration max_pause = absl::Minutes(1);
  // In [0, 1]: each pause is shortened by up to this part of it, at random, so
  // that callers that failed together do not come back together.
  double jitter = 0.2;
  // From the call on, with all attempts and pauses. When the next attempt would
  // begin later than that, the call fails at once.
  absl::Duration total_timeout = absl::InfiniteDuration();
  // Which failures are followed by another attempt; null: those that
  // `RetryMayHelp` says (agent/call_error.h). Called on a thread of the agent's
  // that carries completions; must neither block nor throw.
  std::function<bool(const absl::Status&)> retry_if = nullptr;
};
absl::Status Validate(const RetryOptions& options);

// INVALID_ARGUMENT unless `label` may be a `CallOptions::label`.
absl::Status ValidateLabel(std::string_view label);
// INVALID_ARGUMENT for a storage that is null or not on a CPU.
absl::Status Validate(const ReceiveInto& into);

}  // namespace reprise

#endif  // REPRISE_AGENT_CALL_OPTIONS_H_
