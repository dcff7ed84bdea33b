#include "agent/group/worker_directory.h"

#include <algorithm>
#include <utility>

#include "agent/planted.h"

namespace reprise {
namespace {

// How many members that have left are remembered, for better errors.
constexpr size_t kMaxGone = 1024;

const MemberPtr kNobody;

std::shared_ptr<const MemberSnapshot> Fixed(std::vector<WorkerInfo> workers) {
  std::vector<MemberPtr> members;
  members.reserve(workers.size());
  for (WorkerInfo& worker : workers) {
    auto member = std::make_shared<Member>();
    static_cast<WorkerInfo&>(*member) = std::move(worker);
    members.push_back(std::move(member));
  }
  return std::make_shared<MemberSnapshot>(std::move(members));
}

bool IsTheSame(const MemberPtr& a, const MemberPtr& b) {
  return a->id == b->id && a->name == b->name &&
         a->incarnation == b->incarnation && a->address == b->address;
}

}  // namespace

MemberSnapshot::MemberSnapshot(std::vector<MemberPtr> members)
    : by_id_(std::move(members)) {
  std::sort(
      by_id_.begin(), by_id_.end(),
      [](const MemberPtr& a, const MemberPtr& b) { return a->id < b->id; });
  by_name_ = by_id_;
  std::sort(
      by_name_.begin(), by_name_.end(),
      [](const MemberPtr& a, const MemberPtr& b) { return a->name < b->name; });
}

const MemberPtr& MemberSnapshot::Find(WorkerId id) const {
  // This is its place when no id is missing.
  if (id >= 0 && static_cast<size_t>(id) < by_id_.size() &&
      by_id_[id]->id == id) {
    return by_id_[id];
  }
  const auto found =
      std::lower_bound(by_id_.begin(), by_id_.end(), id,
                       [](const MemberPtr& member, WorkerId wanted) {
                         return member->id < wanted;
                       });
  return found == by_id_.end() || (*found)->id != id ? kNobody : *found;
}

const MemberPtr& MemberSnapshot::Find(std::string_view name) const {
  const auto found =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [](const MemberPtr& member, std::string_view wanted) {
                         return member->name < wanted;
                       });
  return found == by_name_.end() || (*found)->name != name ? kNobody : *found;
}

WorkerDirectory::WorkerDirectory(Runtime& runtime,
                                 std::vector<WorkerInfo> workers, WorkerId self)
    : self_(workers[self]),
      self_id_(self),
      fixed_(Fixed(std::move(workers))),
      mutex_(runtime, "WorkerDirectory") {}

WorkerDirectory::WorkerDirectory(Runtime& runtime, std::string self)
    : self_{std::move(self), -1},
      self_id_(-1),
      mutex_(runtime, "WorkerDirectory"),
      current_(std::make_shared<MemberSnapshot>(std::vector<MemberPtr>())) {}

void WorkerDirectory::SetSelf(WorkerId id) {
  self_.id = id;
  self_id_ = id;
}

std::shared_ptr<const MemberSnapshot> WorkerDirectory::snapshot() const {
  if (fixed_ != nullptr) return fixed_;
  MutexLock lock(mutex_);
  return current_;
}

std::vector<WorkerInfo> WorkerDirectory::workers() const {
  std::vector<WorkerInfo> workers;
  const std::shared_ptr<const MemberSnapshot> now = snapshot();
  workers.reserve(now->by_id().size());
  for (const MemberPtr& member : now->by_id()) workers.push_back(*member);
  return workers;
}

MemberPtr WorkerDirectory::Find(WorkerId id) const {
  return fixed_ != nullptr ? fixed_->Find(id) : snapshot()->Find(id);
}

MemberPtr WorkerDirectory::Find(std::string_view name) const {
  return fixed_ != nullptr ? fixed_->Find(name) : snapshot()->Find(name);
}

std::vector<MembershipChange> WorkerDirectory::Update(
    std::vector<MemberPtr> members) {
  auto next = std::make_shared<const MemberSnapshot>(std::move(members));
  const std::shared_ptr<const MemberSnapshot> before = snapshot();
  std::vector<MembershipChange> changes;
  for (const MemberPtr& member : before->by_id()) {
    const MemberPtr& still = next->Find(member->id);
    if (still == nullptr || !IsTheSame(still, member)) {
      changes.push_back({*member, /*joined=*/false});
    }
  }
  for (const MemberPtr& member : next->by_id()) {
    const MemberPtr& already = before->Find(member->id);
    if (already == nullptr || !IsTheSame(already, member)) {
      changes.push_back({*member, /*joined=*/true});
    }
  }
  if (REPRISE_PLANTED(stale_names) && !before->by_id().empty()) return changes;
  MutexLock lock(mutex_);
  for (const MembershipChange& change : changes) {
    if (change.joined) continue;
    gone_.push_back(change.worker);
    if (gone_.size() > kMaxGone) gone_.pop_front();
  }
  current_ = std::move(next);
  return changes;
}

bool WorkerDirectory::HasLeft(std::string_view name) const {
  MutexLock lock(mutex_);
  return std::any_of(
      gone_.begin(), gone_.end(),
      [name](const WorkerInfo& worker) { return worker.name == name; });
}

bool WorkerDirectory::HasLeft(WorkerId id) const {
  MutexLock lock(mutex_);
  return std::any_of(
      gone_.begin(), gone_.end(),
      [id](const WorkerInfo& worker) { return worker.id == id; });
}

#ifdef REPRISE_WITH_PLANTED_DEFECTS
void PlantedAccess::ReplaceNames(WorkerDirectory& workers,
                                 const std::vector<MemberPtr>& members) {
  auto half = std::make_shared<MemberSnapshot>(*workers.snapshot());
  half->by_name_ = MemberSnapshot(members).by_name_;
  MutexLock lock(workers.mutex_);
  workers.current_ = std::move(half);
}

void PlantedAccess::CallLocked(WorkerDirectory& workers,
                               const std::function<void()>& f) {
  MutexLock lock(workers.mutex_);
  f();
}
#endif

}  // namespace reprise
