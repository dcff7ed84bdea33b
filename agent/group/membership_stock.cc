// The part of membership.h that is for PyTorch's workers in the group.

#include <algorithm>
#include <cstddef>
#include <utility>

#include "agent/group/membership.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// How often a member of ours looks after the next one, for stock workers.
constexpr absl::Duration kBetweenKeeping = absl::Seconds(1);

}  // namespace

void Membership::StockJoined(const WorkerInfo& worker, absl::Time deadline) {
  {
    MutexLock lock(mutex_);
    std::erase(leavers_, worker);
  }
  const absl::StatusOr<WorkerInfo> found = WaitFor(worker.name, deadline);
  LOG_IF(WARNING, !found.ok() && !absl::IsCancelled(found.status()))
      << workers_.self().name << " was told that " << worker.name
      << " joins, and does not find it in the list of members";
}

void Membership::StockLeft(const WorkerInfo& worker, absl::Time deadline) {
  const auto is_member = [&] {
    const MemberPtr member = workers_.Find(worker.name);
    return member != nullptr && member->incarnation == 0 &&
           member->id == worker.id;
  };
  MutexLock lock(mutex_);
  if (!is_member()) return;
  std::erase(leavers_, worker);
  leavers_.push_back(worker);
  ++waiting_;
  changed_.NotifyAll();
  while (is_member() && !stopping_ && news_.WaitUntil(mutex_, deadline)) {
  }
  --waiting_;
}

void Membership::DropLeavers(const std::vector<WorkerInfo>& leavers,
                             std::vector<MemberEntry>& entries) {
  for (const WorkerInfo& leaver : leavers) {
    const size_t left = std::erase_if(entries, [&](const MemberEntry& entry) {
      return entry.incarnation == 0 && entry.worker == leaver;
    });
    if (left != 0) continue;
    MutexLock lock(mutex_);
    std::erase(leavers_, leaver);
  }
}

void Membership::StartKeeperIfNeeded() {
  const bool has_stock = std::any_of(
      known_.begin(), known_.end(),
      [](const MemberEntry& entry) { return entry.incarnation == 0; });
  if (!has_stock) return;
  MutexLock lock(mutex_);
  if (keeper_ != nullptr || stopping_) return;
  // Without a thread the next look tries again.
  keeper_ = runtime_.StartThread("stock-list", [this] { KeepLoop(); });
}

void Membership::KeepLoop() {
  while (true) {
    {
      MutexLock lock(mutex_);
      const absl::Time next = runtime_.Now() + kBetweenKeeping;
      while (!stopping_ && keeper_stops_.WaitUntil(mutex_, next)) {
      }
      if (stopping_) return;
    }
    if (group_.has_left()) continue;
    const absl::Status status = group_.KeepStockList(
        runtime_.Now() + options_.store_timeout + 2 * options_.token_lease);
    VLOG_IF(1, !status.ok()) << "the list of PyTorch's workers: " << status;
  }
}

}  // namespace reprise
