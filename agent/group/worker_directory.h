// The members of the group, as this worker knows them.
//
// In a static group they never change, and a look takes no lock. In a dynamic
// group `Membership` replaces all of them at once, so a reader sees the group
// as it was at one moment, and a member that was found stays valid for as long
// as it is held.

#ifndef REPRISE_AGENT_GROUP_WORKER_DIRECTORY_H_
#define REPRISE_AGENT_GROUP_WORKER_DIRECTORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "agent/device/device_map.h"
#include "agent/runtime/fifo.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/wire/call_extras.h"
#include "agent/worker_info.h"

namespace reprise {

struct Member : WorkerInfo {
  // Tells apart, with the address, who had the same name or id one after
  // another. A store that has lost the group counts from 1 again. 0 in a static
  // group, and for members that joined with PyTorch's own agent.
  int64_t incarnation = 0;
  // Higher for those of whom this agent has learned later. 0 in a static group.
  int64_t learned = 0;
  // Where it listened when it joined; empty in a static group, and of members
  // that joined with PyTorch's own agent.
  std::string address;
  // What it published of its devices; null: nothing.
  std::shared_ptr<const DeviceInfo> devices;
  // What it understood when it joined; not known in a static group.
  PeerFeatures features = {};
};
using MemberPtr = std::shared_ptr<const Member>;

// Immutable.
class MemberSnapshot {
 public:
  explicit MemberSnapshot(std::vector<MemberPtr> members);

  const std::vector<MemberPtr>& by_id() const { return by_id_; }
  // Null when there is none.
  const MemberPtr& Find(WorkerId id) const;
  const MemberPtr& Find(std::string_view name) const;

 private:
  friend struct PlantedAccess;
  std::vector<MemberPtr> by_id_;
  std::vector<MemberPtr> by_name_;
};

// Thread-safe.
class WorkerDirectory {
 public:
  // Of a static group; `workers[i].id` must be i, and names unique.
  WorkerDirectory(Runtime& runtime, std::vector<WorkerInfo> workers,
                  WorkerId self);
  // Of a dynamic one; empty at first.
  WorkerDirectory(Runtime& runtime, std::string self);

  bool is_dynamic() const { return fixed_ == nullptr; }
  // The id is that of `SetSelf` in a dynamic group, and must not be asked for
  // before; `self_id` may be.
  const WorkerInfo& self() const { return self_; }
  WorkerId self_id() const { return self_id_; }
  void SetSelf(WorkerId id);

  size_t size() const { return snapshot()->by_id().size(); }
  std::shared_ptr<const MemberSnapshot> snapshot() const;
  std::vector<WorkerInfo> workers() const;  // by id

  // Null when there is none.
  MemberPtr Find(WorkerId id) const;
  MemberPtr Find(std::string_view name) const;

  // Replaces the picture; says what is new: leaves first, each by id. A new
  // incarnation, or address, is a leave and a join.
  std::vector<MembershipChange> Update(std::vector<MemberPtr> members);
  // Whether one of this name or id was here, and left, not long ago.
  bool HasLeft(std::string_view name) const;
  bool HasLeft(WorkerId id) const;

  // What we know may be out of date: a worker was not found, or does not
  // answer. Never blocks. `hook` is called for each `MarkStale`; set it before
  // others use the directory.
  void MarkStale() const {
    if (on_marked_stale_) on_marked_stale_();
  }
  void OnMarkedStale(std::function<void()> hook) {
    on_marked_stale_ = std::move(hook);
  }

 private:
  friend struct PlantedAccess;

  WorkerInfo self_;
  std::atomic<WorkerId> self_id_;
  const std::shared_ptr<const MemberSnapshot> fixed_;  // null: dynamic
  std::function<void()> on_marked_stale_;

  mutable Mutex mutex_;
  std::shared_ptr<const MemberSnapshot> current_ ABSL_GUARDED_BY(mutex_);
  Fifo<WorkerInfo> gone_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_WORKER_DIRECTORY_H_
