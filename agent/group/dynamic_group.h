// Joins, leaves and reads a dynamic group, which lives in the store.
//
// A member puts there:
//
//   names/<id>, addrs/<name>, names/_ALL_WORKER_INFOS   as PyTorch's workers do
//   reprise/members                                     member_list.h
//   reprise/devices/<name>/<incarnation>                device_map.h
//
// and, while it joins or leaves, the token (group_token.h). A join counts from
// the moment at which `reprise/members` has it. What a worker that dies before
// that leaves behind, the next one of its name or id overwrites. All that the
// token guards is written by compare-and-set, and names and addresses only by a
// worker that is in the list, so that a holder that was pushed aside changes
// nothing.

#ifndef REPRISE_AGENT_GROUP_DYNAMIC_GROUP_H_
#define REPRISE_AGENT_GROUP_DYNAMIC_GROUP_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/device_map.h"
#include "agent/group/group_token.h"
#include "agent/group/liveness_check.h"
#include "agent/group/member_list.h"
#include "agent/group/store_client.h"
#include "agent/options.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// `Join`, `Undo` and `Leave` must be called one at a time. `Read`,
// `ReadConsistent` and `ReadDevices` are thread-safe; `KeepStockList` may be
// called beside `Leave`, by one thread.
class DynamicGroup {
 public:
  using Check = std::function<Liveness(const std::string& address,
                                       AskInstance ask, absl::Time deadline)>;
  // A member of ours has joined or left, and stock members do not learn of it
  // from the store.
  struct StockNews {
    WorkerInfo worker;
    bool is_join = false;
    std::vector<WorkerInfo> to;           // the stock members
    std::vector<std::string> all_others;  // the names of all but `worker`
  };
  // Tells them, and returns when they know, or at the deadline: those who may
  // be dead, since they did not answer.
  using Tell = std::function<std::vector<WorkerInfo>(const StockNews& news,
                                                     absl::Time deadline)>;

  // `features` is what we publish of ourselves. `check` finds out whether
  // somebody listens at an address. `tell` is called while the token is held.
  DynamicGroup(Runtime& runtime, StoreClient& store,
               const AgentOptions& options, std::string features, Check check,
               Tell tell);

  // Returns our entry. A member that has our name or id is replaced if it is
  // proven dead: nobody listens where it was. ALREADY_EXISTS if it lives, or is
  // silent; DEADLINE_EXCEEDED if the check itself fails until then;
  // INVALID_ARGUMENT if the device maps do not fit together. After an error
  // nothing of ours is in the store, as far as the store could be reached; that
  // may take a second more. May be called again when the store has lost it.
  absl::StatusOr<MemberEntry> Join(const std::string& address,
                                   absl::Time deadline);

  // Takes back a join that succeeded, as `Join` does after an error.
  void Undo(absl::Time deadline);

  // Takes us out of the group; does nothing if we are not in it. May be called
  // again after an error.
  absl::Status Leave(absl::Time deadline);

  // Whether the entry that `Join` returned last is among `members`.
  bool IsIn(const std::vector<MemberEntry>& members) const;

  // Whether a `Leave` of ours has begun to take us out. May be called on any
  // thread.
  bool has_left() const { return has_left_; }

  // Whether others were members when we left.
  bool left_others() const { return left_others_; }

  // The lists as the store has them. As long as they are equal, no member has
  // come or gone, and they need not be parsed again.
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

  // A stock worker that joins asks every member of PyTorch's list, and cannot
  // join while one of them is dead. So we look after our next member in that
  // list, by id, and after stock members that did not answer when they were
  // told something: if one is proven dead, it is taken off that list, and stock
  // members are told that it has left. One of ours stays in `reprise/members`.
  // A token that a dead member of ours holds is released, so
  // that stock workers need not wait for it. Returns after one look, at
  // `deadline` at the latest.
  absl::Status KeepStockList(absl::Time deadline);

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
  struct Suspect {
    WorkerInfo worker;
    int looks_left = 0;
  };
  // Name, incarnation and address.
  using Identity = std::tuple<std::string, int64_t, std::string>;

  absl::StatusOr<GroupState> ReadState(absl::Time deadline);
  static absl::StatusOr<GroupState> ParseState(Texts texts);
  static std::vector<MemberEntry> Merge(GroupState state);
  // Finds out which of those that are in our way are dead. ABORTED if that
  // could not be found out.
  absl::Status CheckRivals(const GroupState& state, absl::Time deadline);
  // Looks up to three times, each time for `longest`. `published` becomes the
  // address that it has published.
  absl::StatusOr<Liveness> CheckMember(const MemberEntry& entry,
                                       absl::Duration longest,
                                       std::string& published,
                                       absl::Time deadline);
  bool IsRival(const MemberEntry& entry) const;
  bool IsProvenDead(const MemberEntry& entry) const;
  GroupToken MakeToken(std::string_view purpose, absl::Time release_by);

  // With the token held. ABORTED: look again.
  absl::Status JoinWithToken(absl::Time deadline);
  absl::Status Enter(const GroupState& state, absl::Time deadline);
  absl::Status ClaimId(WorkerId id, absl::Time deadline);
  // Sets `key`, unless it is no longer `present`: then ABORTED.
  absl::Status Replace(const std::string& key, std::string present,
                       std::string_view desired, absl::Time deadline);
  absl::StatusOr<std::string> ReadOrEmpty(const std::string& key,
                                          absl::Time deadline);
  absl::Status ValidateAgainst(const std::vector<MemberEntry>& others,
                               absl::Time deadline);
  absl::Status UpdateStock(const std::vector<WorkerInfo>& remove,
                           const WorkerInfo* add, absl::Time deadline);
  absl::Status LeaveWithToken(absl::Time deadline);
  // dynamic_group_stock.cc
  // Adds the news to `news_`, if there are stock members in `group`.
  void AddNews(const WorkerInfo& worker, bool is_join,
               const std::vector<MemberEntry>& group);
  // Tells `news`, in their order; takes some of the time until `deadline`.
  void TellStock(std::vector<StockNews> news, absl::Time deadline);
  // The lowest id that no other has; where stock members are in the group, the
  // lowest one that nobody has had either.
  absl::StatusOr<WorkerId> ChooseId(const std::set<WorkerId>& taken,
                                    bool is_for_stock, absl::Time deadline);
  // The next member of ours in PyTorch's list.
  static std::optional<MemberEntry> NextListed(const GroupState& state,
                                               const std::string& after);
  // Takes `entry` off that list if it is dead. Returns whether it was.
  absl::StatusOr<bool> EvictIfDead(const MemberEntry& entry,
                                   absl::Time deadline);
  // `published` is the address that it had.
  absl::Status EvictFromStockList(const MemberEntry& dead,
                                  const std::string& published,
                                  absl::Time deadline);
  // Stock members that did not answer, and are still in that list.
  std::vector<Suspect> TakeSuspects(const GroupState& state);
  absl::Status ReleaseDeadToken(absl::Time deadline);
  // `published` is the address that it had when it was in the list.
  void Forget(const MemberEntry& entry, std::string published,
              absl::Time deadline);
  const MemberEntry* FindOurs(const MemberList& list) const;
  static Identity IdentityOf(const MemberEntry& entry);
  static std::string DevicesKey(const MemberEntry& entry);

  Runtime& runtime_;
  StoreClient& store_;
  const AgentOptions& options_;
  const std::string features_;  // as they are published
  const Check check_;
  const Tell tell_;
  const DeviceInfo devices_;

  std::string address_;
  std::atomic<int64_t> tokens_made_ = 0;
  // Members that are proven dead, and the addresses that they have published.
  std::map<Identity, std::string> dead_;
  // The numbers under which we may have joined: a store that failed may have
  // done it all the same.
  std::set<int64_t> attempts_;
  std::optional<MemberEntry> ours_;
  std::vector<MemberEntry> replaced_;
  // What stock members are to be told when the token's work is done.
  std::vector<StockNews> news_;
  // The token and its lease as `KeepStockList` has seen them last.
  std::string last_token_;
  Mutex mutex_;
  // Stock members that may be dead, for `KeepStockList`.
  std::vector<Suspect> suspects_ ABSL_GUARDED_BY(mutex_);
  bool left_others_ = false;
  std::atomic<bool> has_left_ = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_DYNAMIC_GROUP_H_
