#include "agent/group/membership.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/group/rendezvous.h"
#include "agent/planted.h"
#include "agent/rare_way.h"
#include "agent/wire/call_extras.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// How long after the last look a wanted one may come: several calls tend to
// fail at the same time, and all workers share the store.
constexpr absl::Duration kBetweenLooks = absl::Milliseconds(100);

}  // namespace

Membership::Membership(Runtime& runtime, DynamicGroup& group,
                       StoreClient& store, WorkerDirectory& workers,
                       const AgentOptions& options, Observer* observer)
    : runtime_(runtime),
      group_(group),
      store_(store),
      workers_(workers),
      options_(options),
      observer_(observer),
      mutex_(runtime, "Membership"),
      changed_(runtime, "Membership.changed"),
      news_(runtime, "Membership.news"),
      keeper_stops_(runtime, "Membership.keeper"),
      callbacks_(runtime, "membership-cb", 1) {}

Membership::~Membership() {
  MutexLock lock(mutex_);
  CHECK(thread_ == nullptr && keeper_ == nullptr)
      << "a membership was destroyed before its Stop";
}

absl::Status Membership::Start(absl::Time deadline) {
  if (const auto changes = Refresh(deadline); !changes.ok()) {
    return changes.status();
  }
  if (!group_.IsIn(known_)) {
    return absl::AbortedError(
        "the store has lost that this worker has joined, or others took it "
        "for dead");
  }
  if (options_.on_membership_change) {
    // Every change must be reported, so a lack of threads has to show now.
    if (absl::Status status = callbacks_.Start(); !status.ok()) return status;
  }
  MutexLock lock(mutex_);
  thread_ = runtime_.StartThread("membership", [this] { Loop(); });
  return thread_ == nullptr ? CannotStartThread("membership")
                            : absl::OkStatus();
}

void Membership::Loop() {
  absl::Time last = runtime_.Now();
  while (true) {
    {
      MutexLock lock(mutex_);
      while (!stopping_) {
        const absl::Time next =
            last + (wanted_ || waiting_ > 0
                        ? std::min(kBetweenLooks, options_.membership_refresh)
                        : options_.membership_refresh);
        if (runtime_.Now() >= next || REPRISE_RARE_WAY("members are read") ||
            !changed_.WaitUntil(mutex_, next))
          break;
      }
      if (stopping_) return;
      wanted_ = false;
    }
    absl::StatusOr<std::vector<MembershipChange>> changes =
        Refresh(runtime_.Now() + options_.store_timeout);
    LogVisibility(changes.status());
    if (changes.ok()) {
      StartKeeperIfNeeded();
      Tell(*changes);
    }
    last = runtime_.Now();
    MutexLock lock(mutex_);
    news_.NotifyAll();
  }
}

absl::StatusOr<DynamicGroup::Texts> Membership::Read(absl::Time deadline) {
  if (!REPRISE_PLANTED(lock_over_store)) return group_.Read(deadline);
  absl::StatusOr<DynamicGroup::Texts> texts;
  PlantedAccess::CallLocked(workers_, [&] { texts = group_.Read(deadline); });
  return texts;
}

absl::StatusOr<std::vector<MembershipChange>> Membership::Refresh(
    absl::Time deadline) {
  absl::StatusOr<std::vector<MembershipChange>> changes;
  do {
    changes = TryToRefresh(deadline);
  } while (absl::IsAborted(changes.status()) && runtime_.Now() < deadline);
  if (!absl::IsAborted(changes.status())) return changes;
  return absl::DeadlineExceededError(changes.status().message());
}

absl::StatusOr<std::shared_ptr<const DeviceInfo>> Membership::ReadDevices(
    const MemberEntry& of, const DynamicGroup::Texts& group,
    absl::Time deadline) {
  absl::StatusOr<DeviceInfo> devices = group_.ReadDevices(of, deadline);
  if (absl::IsNotFound(devices.status())) {
    // The member has just left, or its devices were removed from the store by
    // hand.
    absl::StatusOr<DynamicGroup::Texts> texts = Read(deadline);
    if (texts.ok()) texts = group_.ReadConsistent(*std::move(texts), deadline);
    if (!texts.ok()) return texts.status();
    if (*texts != group) {
      return absl::AbortedError("the group changes faster than it can be read");
    }
    return std::make_shared<DeviceInfo>();
  }
  if (!devices.ok()) return devices.status();
  return std::make_shared<DeviceInfo>(*std::move(devices));
}

absl::StatusOr<MemberPtr> Membership::ReadMember(
    const MemberEntry& entry, const DynamicGroup::Texts& group,
    absl::Time deadline) {
  auto member = std::make_shared<Member>();
  static_cast<WorkerInfo&>(*member) = entry.worker;
  member->incarnation = entry.incarnation;
  member->learned = REPRISE_PLANTED(incarnations_only_grow) ? entry.incarnation
                                                            : ++num_learned_;
  member->address = entry.address;
  if (entry.incarnation != 0) {  // it is not a stock worker
    // The features are read now, so that the first connection to it needs no
    // store.
    const absl::StatusOr<std::string> features =
        store_.TryGet(FeaturesKey(entry.worker.name), deadline);
    if (features.ok()) {
      member->features = ParseFeatures(*features);
    } else if (absl::IsNotFound(features.status())) {
      member->features = ParseFeatures("");
    } else {
      return features.status();
    }
  }
  if (entry.has_devices) {
    absl::StatusOr<std::shared_ptr<const DeviceInfo>> devices =
        ReadDevices(entry, group, deadline);
    if (!devices.ok()) return devices.status();
    member->devices = *std::move(devices);
  }
  return member;
}

absl::StatusOr<std::vector<MembershipChange>> Membership::TryToRefresh(
    absl::Time deadline) {
  std::vector<WorkerInfo> leavers;
  {
    MutexLock lock(mutex_);
    leavers = leavers_;
  }
  absl::StatusOr<DynamicGroup::Texts> texts = Read(deadline);
  if (!texts.ok()) return texts.status();
  if (*texts == seen_ && leavers == seen_leavers_) {
    return std::vector<MembershipChange>();
  }
  texts = group_.ReadConsistent(*std::move(texts), deadline);
  if (!texts.ok()) return texts.status();
  absl::StatusOr<std::vector<MemberEntry>> entries =
      DynamicGroup::Parse(*texts);
  if (!entries.ok()) return entries.status();
  if (!leavers.empty()) DropLeavers(leavers, *entries);
  if (*entries == known_) {
    // Both, or a list that becomes what it was would be taken for this one.
    seen_ = *std::move(texts);
    seen_leavers_ = std::move(leavers);
    return std::vector<MembershipChange>();
  }
  const std::shared_ptr<const MemberSnapshot> before = workers_.snapshot();
  std::vector<MemberPtr> members;
  for (const MemberEntry& entry : *entries) {
    const MemberPtr& already = before->Find(entry.worker.id);
    if (already != nullptr && already->name == entry.worker.name &&
        already->incarnation == entry.incarnation &&
        already->address == entry.address) {
      members.push_back(already);
      continue;
    }
    absl::StatusOr<MemberPtr> member = ReadMember(entry, *texts, deadline);
    if (!member.ok()) return member.status();
    members.push_back(*std::move(member));
  }
  if (REPRISE_PLANTED(leave_wipes_maps) && members.size() < known_.size()) {
    for (MemberPtr& member : members) {
      auto wiped = std::make_shared<Member>(*member);
      wiped->devices = nullptr;
      member = std::move(wiped);
    }
  }
  if (REPRISE_PLANTED(unlocked_maps)) {
    // Planted: the names change at once, and the ids only after another access
    // to the store.
    PlantedAccess::ReplaceNames(workers_, members);
    group_.Read(deadline).status().IgnoreError();
  }
  seen_ = *std::move(texts);
  seen_leavers_ = std::move(leavers);
  known_ = *std::move(entries);
  return workers_.Update(std::move(members));
}

void Membership::LogVisibility(const absl::Status& look) {
  if (absl::IsCancelled(look)) return;  // by our own shutdown
  if (look.ok() == sees_group_) {
    VLOG_IF(1, !look.ok()) << "still cannot see the group: " << look;
    return;
  }
  sees_group_ = look.ok();
  const std::string& name = workers_.self().name;
  if (sees_group_) {
    LOG(INFO) << "worker " << name << " sees again who is in the group";
  } else {
    LOG(WARNING) << "worker " << name << " cannot see who is in the group, and "
                 << "goes on with the " << known_.size()
                 << " members that it knows: " << look;
  }
}

void Membership::TellOfEviction() {
  const absl::Status status = absl::AbortedError(
      absl::StrCat("worker ", workers_.self().name,
                   " is no member of the group any more: others took it for "
                   "dead and evicted it"));
  LOG(WARNING) << status.message();
  if (!options_.on_evicted) return;
  callbacks_.Run([this, status] {
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
    }
    try {
      options_.on_evicted(status);
    } catch (const std::exception& error) {
      LOG(ERROR) << "on_evicted threw: " << error.what();
    } catch (...) {
      LOG(ERROR) << "on_evicted threw";
    }
  });
}

void Membership::Tell(const std::vector<MembershipChange>& changes) {
  for (const MembershipChange& change : changes) {
    if (change.worker.name == workers_.self().name) {
      if (!change.joined && !group_.has_left()) TellOfEviction();
      continue;
    }
    VLOG(1) << change.worker.name << (change.joined ? " joined" : " left");
    if (observer_ != nullptr) {
      observer_->OnMember(change.worker.name, change.worker.id, change.joined);
    }
    if (options_.on_membership_change) {
      callbacks_.Run([this, change] { Call(change); });
    }
  }
}

void Membership::Call(const MembershipChange& change) {
  {
    MutexLock lock(mutex_);
    if (stopping_) return;
  }
  try {
    options_.on_membership_change(change);
  } catch (const std::exception& error) {
    LOG(ERROR) << "on_membership_change threw: " << error.what();
  } catch (...) {
    LOG(ERROR) << "on_membership_change threw";
  }
}

absl::StatusOr<WorkerInfo> Membership::WaitFor(std::string_view name,
                                               absl::Time deadline) {
  MutexLock lock(mutex_);
  ++waiting_;
  changed_.NotifyAll();
  absl::StatusOr<WorkerInfo> found = absl::DeadlineExceededError(
      absl::StrCat("worker ", absl::string_view(name.data(), name.size()),
                   " has not joined the group"));
  bool in_time = true;
  while (true) {
    if (const MemberPtr member = workers_.Find(name); member != nullptr) {
      found = *member;
      break;
    }
    if (stopping_) {
      found = absl::CancelledError("the agent was shut down");
      break;
    }
    if (!in_time) break;
    in_time = news_.WaitUntil(mutex_, deadline);
  }
  --waiting_;
  return found;
}

void Membership::LookSoon() {
  MutexLock lock(mutex_);
  if (wanted_) return;
  wanted_ = true;
  changed_.NotifyAll();
}

void Membership::Stop() {
  std::unique_ptr<Thread> thread;
  std::unique_ptr<Thread> keeper;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
    news_.NotifyAll();
    keeper_stops_.NotifyAll();
    thread.swap(thread_);
    keeper.swap(keeper_);
  }
  if (thread != nullptr) thread->Join();
  if (keeper != nullptr) keeper->Join();
}

}  // namespace reprise
