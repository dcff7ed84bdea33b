// The lock of a dynamic group: who joins or leaves holds it meanwhile.
//
// It is that of PyTorch's workers, who may share the group: the key
// `RpcGroupManagementToken` is "" or holds `Token_for_<name>_join`; who lets it
// go sets it to "" and then the key that is named as the token to "Done", for
// which stock workers wait. Beside it `reprise/token_lease` holds a stamp of
// who has it. When both stay the same for the length of a lease, by the clock
// of whoever waits, the holder is taken to have died and is pushed aside. So a
// holder must be done in half of that time, and what it changes in the store it
// changes by compare-and-set: one that was pushed aside and wakes up later does
// no harm.

#ifndef REPRISE_AGENT_GROUP_GROUP_TOKEN_H_
#define REPRISE_AGENT_GROUP_GROUP_TOKEN_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/group/store_client.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Not thread-safe. Destroying it lets the token go, as far as the store answers
// within a second.
class GroupToken {
 public:
  // `purpose` is "join" or "leave"; `stamp` differs from that of every other
  // holder.
  GroupToken(Runtime& runtime, StoreClient& store, const std::string& name,
             std::string_view purpose, std::string stamp, absl::Duration lease);
  ~GroupToken();
  GroupToken(const GroupToken&) = delete;
  GroupToken& operator=(const GroupToken&) = delete;

  // DEADLINE_EXCEEDED names who holds it.
  absl::Status Acquire(absl::Time deadline);

  // By then the holder must be done.
  absl::Time held_until() const { return held_until_; }

  // Does nothing when it is not held.
  void Release(absl::Time deadline);

 private:
  struct Sight {
    std::string token;
    std::string lease;
    friend bool operator==(const Sight&, const Sight&) = default;
  };

  // Takes it when it is free, or ours by name and not leased. `seen` is what
  // was found else.
  absl::Status TryAcquire(absl::Time deadline, Sight& seen);
  absl::Status PushAside(const Sight& dead, absl::Time deadline);
  void Held();

  Runtime& runtime_;
  StoreClient& store_;
  const std::string token_;
  const std::string stamp_;
  const absl::Duration lease_;
  // It may be ours although the store did not say so.
  bool may_be_held_ = false;
  bool held_ = false;
  absl::Time held_until_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_GROUP_TOKEN_H_
