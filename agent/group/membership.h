// Keeps a member of a dynamic group informed of the other members.
//
// One thread reads the group's lists from the store: every
// `AgentOptions::membership_refresh`, and soon after what is known proved to be
// out of date (a worker was not found, a connection failed), or while somebody
// waits for a worker. Another thread calls `on_membership_change`, for one
// change after another in their order, so that a call that blocks delays
// further calls and nothing else. Once a stock worker was seen in the group, a
// third thread keeps the list that stock workers read
// (`DynamicGroup::KeepStockList`).

#ifndef REPRISE_AGENT_GROUP_MEMBERSHIP_H_
#define REPRISE_AGENT_GROUP_MEMBERSHIP_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/group/dynamic_group.h"
#include "agent/group/store_client.h"
#include "agent/group/worker_directory.h"
#include "agent/observer.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/thread_pool.h"

namespace reprise {

// Thread-safe. Before it is destroyed: `Stop` called, after that of the store's
// client, and either `StopCallbacks` has returned true or `AbandonCallbacks`
// was called.
class Membership {
 public:
  Membership(Runtime& runtime, DynamicGroup& group, StoreClient& store,
             WorkerDirectory& workers, const AgentOptions& options,
             Observer* observer);
  ~Membership();

  // Reads the lists for the first time, and starts the threads. The members
  // that are there already are no changes. ABORTED when we are not among them
  // any more: join again, and call this again. RESOURCE_EXHAUSTED when a thread
  // cannot be started.
  absl::Status Start(absl::Time deadline);

  // Returns once `name` is a member. DEADLINE_EXCEEDED when it does not come.
  absl::StatusOr<WorkerInfo> WaitFor(std::string_view name,
                                     absl::Time deadline);

  // A stock member that joins or leaves has told us so. Returns once it is a
  // member for us, or no member any more, or at `deadline`. It joins by being
  // in the list, as all do. It leaves at once: it tells everybody before it
  // takes itself off the list, and from then on takes no calls.
  void StockJoined(const WorkerInfo& worker, absl::Time deadline);
  void StockLeft(const WorkerInfo& worker, absl::Time deadline);

  // Has the lists read soon. Never blocks.
  void LookSoon();

  // Ends the threads, but that of `on_membership_change`, and all waits.
  void Stop();

  // After `Stop`: waits for the callback, and drops the changes that it has not
  // been told. Returns false when it still runs at `deadline`; may be called
  // again. `AbandonCallbacks` is as `ThreadPool::Abandon`.
  bool StopCallbacks(absl::Time deadline) { return callbacks_.Stop(deadline); }
  void AbandonCallbacks(std::shared_ptr<void> owner) {
    callbacks_.Abandon(std::move(owner));
  }

 private:
  void Loop();
  // Of the thread that keeps the stock list.
  void KeepLoop();
  void StartKeeperIfNeeded();
  // These run on the thread, or before it is started.
  absl::StatusOr<DynamicGroup::Texts> Read(absl::Time deadline);
  // ABORTED: the group changed meanwhile.
  absl::StatusOr<std::shared_ptr<const DeviceInfo>> ReadDevices(
      const MemberEntry& of, const DynamicGroup::Texts& group,
      absl::Time deadline);
  absl::StatusOr<MemberPtr> ReadMember(const MemberEntry& entry,
                                       const DynamicGroup::Texts& group,
                                       absl::Time deadline);
  absl::StatusOr<std::vector<MembershipChange>> TryToRefresh(
      absl::Time deadline);
  absl::StatusOr<std::vector<MembershipChange>> Refresh(absl::Time deadline);
  // Logs that the group cannot be seen any more, and that it can be seen again:
  // once each.
  void LogVisibility(const absl::Status& look);
  void TellOfEviction();
  // Takes stock members that have told that they leave off `entries`. `leavers`
  // is what they had told by the time the list was read; those that it has not
  // any more are forgotten.
  void DropLeavers(const std::vector<WorkerInfo>& leavers,
                   std::vector<MemberEntry>& entries);
  void Tell(const std::vector<MembershipChange>& changes);
  // The body of a callback.
  void Call(const MembershipChange& change);

  Runtime& runtime_;
  DynamicGroup& group_;
  StoreClient& store_;
  WorkerDirectory& workers_;
  const AgentOptions& options_;
  Observer* const observer_;

  // Used by `Refresh` alone.
  std::optional<DynamicGroup::Texts> seen_;  // what `known_` was parsed from
  std::vector<WorkerInfo> seen_leavers_;     // and `leavers_` then
  std::vector<MemberEntry> known_;
  int64_t num_learned_ = 0;  // `Member::learned` of the last one
  bool sees_group_ = true;   // used by `Loop` alone

  Mutex mutex_;
  CondVar changed_;  // any of the following
  bool wanted_ ABSL_GUARDED_BY(mutex_) = false;
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  // Stock members that have told that they leave and may still be in the list.
  std::vector<WorkerInfo> leavers_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  CondVar news_;  // the directory was replaced, or stopping_ was set
  std::unique_ptr<Thread> thread_ ABSL_GUARDED_BY(mutex_);
  CondVar keeper_stops_;  // stopping_ was set
  std::unique_ptr<Thread> keeper_ ABSL_GUARDED_BY(mutex_);
  ThreadPool callbacks_;  // of one thread
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_MEMBERSHIP_H_
