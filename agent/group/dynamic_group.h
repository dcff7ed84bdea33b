// Joining, leaving and reading a dynamic group, on the store.
//
// All that a member puts there:
//
//   names/<id>, addrs/<name>, names/_ALL_WORKER_INFOS   as PyTorch's workers do
//   reprise/members                                     member_list.h
//   reprise/devices/<name>/<incarnation>                device_map.h
//
// and, meanwhile, the token (group_token.h). A join counts from the moment at
// which `reprise/members` has it: what a worker that dies before that leaves
// behind, the next one of its name or id overwrites.

#ifndef REPRISE_AGENT_GROUP_DYNAMIC_GROUP_H_
#define REPRISE_AGENT_GROUP_DYNAMIC_GROUP_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/device_map.h"
#include "agent/group/group_token.h"
#include "agent/group/member_list.h"
#include "agent/group/store_client.h"
#include "agent/options.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// `Join` and `Leave` one at a time; `Read` and `ReadDevices` at any time.
class DynamicGroup {
 public:
  // Whether nobody listens there any more. False when that is not known by
  // `deadline`.
  using IsDead =
      std::function<bool(const std::string& address, absl::Time deadline)>;

  DynamicGroup(Runtime& runtime, StoreClient& store,
               const AgentOptions& options, std::string features,
               IsDead is_dead);

  // Returns our entry. A dead member that has our name or id is replaced.
  // ALREADY_EXISTS when it lives; INVALID_ARGUMENT when the device maps do not
  // fit together. After an error nothing of ours is in the store, as far as the
  // store could be reached; to see to that may take a second more.
  absl::StatusOr<MemberEntry> Join(const std::string& address,
                                   absl::Time deadline);

  // As `Join` does after an error.
  void Undo(absl::Time deadline);

  // Takes us out; does nothing when we are not in. May be called again after an
  // error.
  absl::Status Leave(absl::Time deadline);

  // Whether others were members when we left.
  bool left_others() const { return left_others_; }

  // The lists as the store has them. When they have not changed, nobody came or
  // went, and they need not be parsed again.
  struct Texts {
    std::string members;
    std::string stock;
    friend bool operator==(const Texts&, const Texts&) = default;
  };
  absl::StatusOr<Texts> Read(absl::Time deadline);
  // `Read` reads one list after the other. Returns what both had at one moment.
  absl::StatusOr<Texts> ReadConsistent(Texts texts, absl::Time deadline);

  // All members, stock ones too, by id.
  static absl::StatusOr<std::vector<MemberEntry>> Parse(const Texts& texts);

  // What `entry` published of its devices. NOT_FOUND when it has left.
  absl::StatusOr<DeviceInfo> ReadDevices(const MemberEntry& entry,
                                         absl::Time deadline);

 private:
  // What is in the store: the texts, for compare-and-set, and what they mean.
  struct GroupState {
    Texts texts;
    MemberList members;
    std::vector<WorkerInfo> stock;
  };
  using Identity = std::pair<std::string, int64_t>;  // name, incarnation

  absl::StatusOr<GroupState> ReadState(absl::Time deadline);
  static absl::StatusOr<GroupState> ParseState(Texts texts);
  static std::vector<MemberEntry> Merge(GroupState state);
  // Finds out which of those that are in our way are dead.
  absl::Status ProbeRivals(const GroupState& state, absl::Time deadline);
  bool IsRival(const MemberEntry& entry) const;
  bool IsProvenDead(const MemberEntry& entry) const;
  GroupToken MakeToken(std::string_view purpose);

  // With the token held. ABORTED: look again.
  absl::Status JoinWithToken(absl::Time deadline);
  absl::Status Enter(const GroupState& state, absl::Time deadline);
  absl::Status ClaimId(const GroupState& state, absl::Time deadline);
  absl::Status ValidateAgainst(const std::vector<MemberEntry>& others,
                               absl::Time deadline);
  absl::Status UpdateStock(const std::vector<WorkerInfo>& remove,
                           const WorkerInfo* add, absl::Time deadline);
  absl::Status LeaveWithToken(absl::Time deadline);
  void Forget(const MemberEntry& entry, absl::Time deadline);
  const MemberEntry* FindOurs(const MemberList& list) const;
  std::string DevicesKey(const Identity& who) const;

  Runtime& runtime_;
  StoreClient& store_;
  const AgentOptions& options_;
  const std::string features_;  // as they are published
  const IsDead is_dead_;
  const DeviceInfo devices_;

  std::string address_;
  int64_t tokens_made_ = 0;
  std::set<Identity> dead_;
  // The numbers under which we may have joined: a store that failed may have
  // done it all the same.
  std::set<int64_t> attempts_;
  std::optional<MemberEntry> ours_;
  std::vector<MemberEntry> replaced_;
  bool left_others_ = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_DYNAMIC_GROUP_H_
