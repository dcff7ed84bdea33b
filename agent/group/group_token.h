// The lock of a dynamic group, which a worker holds while it joins or leaves.
//
// It is the lock of PyTorch's workers, which may share the group. The key
// `RpcGroupManagementToken` is "" or `Token_for_<name>_join` (or `_leave`). A
// holder that lets the lock go sets it to "", and then the key that has the
// token's name to "Done", for which stock workers wait. Beside it,
// `reprise/token_lease` holds the stamp of the holder. When both stay the same
// for the length of a lease, by the clock of the worker that waits, that worker
// breaks the lease and takes the lock. So a holder must be done in half of that
// time, and must write to the store by compare-and-set, so that it does no harm
// if it lost its lease and goes on later.

#ifndef REPRISE_AGENT_GROUP_GROUP_TOKEN_H_
#define REPRISE_AGENT_GROUP_GROUP_TOKEN_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/group/store_client.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Not thread-safe. The destructor lets the lock go, if the store answers within
// a second and by `release_by`.
class GroupToken {
 public:
  // `purpose` is "join", "leave" or "evict"; `stamp` differs from that of every
  // other holder.
  GroupToken(Runtime& runtime, StoreClient& store, const std::string& name,
             std::string_view purpose, std::string stamp, absl::Duration lease,
             absl::Time release_by);
  ~GroupToken();
  GroupToken(const GroupToken&) = delete;
  GroupToken& operator=(const GroupToken&) = delete;

  // Waits for the lock. DEADLINE_EXCEEDED names the holder.
  absl::Status Acquire(absl::Time deadline);

  // When the holder must be done.
  absl::Time held_until() const { return held_until_; }

  // Does nothing if the lock is not held.
  void Release(absl::Time deadline);

  // The token and the stamp of its holder, as one text; empty if it is free, or
  // held by a stock worker.
  static absl::StatusOr<std::string> LeasedBy(StoreClient& store,
                                              absl::Time deadline);

 private:
  struct TokenState {
    std::string token;
    std::string lease;
    friend bool operator==(const TokenState&, const TokenState&) = default;
  };

  // Takes the lock if it is free, or ours by name and not leased. Otherwise
  // `seen` is what was found.
  absl::Status TryAcquire(absl::Time deadline, TokenState& seen);
  absl::Status BreakLease(const TokenState& dead, absl::Time deadline);
  void Held();

  Runtime& runtime_;
  StoreClient& store_;
  const std::string token_;
  const std::string stamp_;
  const absl::Duration lease_;
  const absl::Time release_by_;
  // The store may have given it to us without our having learnt of it.
  bool may_be_held_ = false;
  bool held_ = false;
  absl::Time held_until_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_GROUP_TOKEN_H_
