// Keeps a member of a dynamic group informed of who else is there.
//
// One thread reads the group's lists from the store: every
// `AgentOptions::membership_refresh`, and soon after somebody doubts what is
// known (a worker was not found, a connection failed, somebody waits for one).

#ifndef REPRISE_AGENT_GROUP_MEMBERSHIP_H_
#define REPRISE_AGENT_GROUP_MEMBERSHIP_H_

#include <atomic>
#include <functional>
#include <map>
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
#include "agent/group/worker_directory.h"
#include "agent/observer.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Thread-safe. `Stop` must be called before it is destroyed, after that of the
// store's client.
class Membership {
 public:
  Membership(Runtime& runtime, DynamicGroup& group, WorkerDirectory& workers,
             const AgentOptions& options, Observer* observer);
  ~Membership();

  // Reads the lists for the first time, and starts the thread. That the members
  // of now have joined is told to nobody.
  absl::Status Start(absl::Time deadline);

  // Returns once `name` is a member. DEADLINE_EXCEEDED when it does not come.
  absl::StatusOr<WorkerInfo> WaitFor(std::string_view name,
                                     absl::Time deadline);

  // Never blocks.
  void LookSoon();

  // We are about to leave: to be no member any more is no news.
  void ExpectLeave() { leaves_ = true; }

  void Stop();

 private:
  using Identity = std::pair<std::string, int64_t>;  // name, incarnation

  void Loop();
  // On the thread, or before it runs.
  absl::StatusOr<DynamicGroup::Texts> Read(absl::Time deadline);
  // ABORTED: the group changed meanwhile.
  absl::StatusOr<std::shared_ptr<const DeviceInfo>> ReadDevices(
      const MemberEntry& of, const DynamicGroup::Texts& group,
      absl::Time deadline);
  absl::StatusOr<std::vector<MembershipChange>> TryToRefresh(
      absl::Time deadline);
  absl::StatusOr<std::vector<MembershipChange>> Refresh(absl::Time deadline);
  // Logs that sight of the group was lost, and that it is back: once each.
  void LogVisibility(const absl::Status& look);
  void TellOfEviction();
  void Tell(const std::vector<MembershipChange>& changes);

  Runtime& runtime_;
  DynamicGroup& group_;
  WorkerDirectory& workers_;
  const AgentOptions& options_;
  Observer* const observer_;

  // Of `Refresh` alone.
  std::optional<DynamicGroup::Texts> seen_;  // what `known_` was parsed from
  std::vector<MemberEntry> known_;
  bool is_first_ = true;
  bool sees_group_ = true;  // of `Loop` alone
  std::atomic<bool> leaves_ = false;

  Mutex mutex_;
  CondVar changed_;  // any of the following
  bool wanted_ ABSL_GUARDED_BY(mutex_) = false;
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  CondVar news_;  // the directory was replaced, or stopping_ was set
  std::unique_ptr<Thread> thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_MEMBERSHIP_H_
