// What an agent does as a member of a dynamic group.

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/agent_impl.h"
#include "agent/group/deadline_margin.h"
#include "agent/group/liveness_check.h"
#include "agent/group/rendezvous.h"
#include "agent/group/static_devices.h"
#include "agent/planted.h"
#include "agent/wire/call_extras.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// The time that others need beyond `membership_refresh` to read the store, and
// that messages may still be on their way.
constexpr absl::Duration kToLearn = absl::Milliseconds(100);

// After a join that was lost.
constexpr absl::Duration kBeforeNextJoin = absl::Milliseconds(200);

}  // namespace

absl::Status Agent::Impl::EnterStaticGroup(absl::Time deadline) {
  const DeviceInfo own{options_.device_maps, options_.devices,
                       options_.device_count};
  const std::string instance = FormatInstance(instance_);
  if (absl::Status status = PublishDevices(*store_, workers_.self().name,
                                           instance, own, deadline);
      !status.ok()) {
    return status;
  }
  const auto keep = [&](absl::Time until) {
    absl::Status status = AgreeOnKind(*store_, /*is_static=*/true, until);
    if (status.ok()) status = KeepName(*store_, options_, until);
    if (status.ok()) {
      status = KeepDevices(*store_, workers_.self().name, instance, own, until);
    }
    return status;
  };
  StaticGroup group(runtime_, *store_, options_, workers_, instance,
                    OwnFeatures(instance_), keep,
                    [this](const std::string& address, absl::Time until) {
                      return CheckLiveness(runtime_, *context_, address,
                                           AskInstance::kYes, until);
                    });
  absl::StatusOr<std::vector<std::string>> addresses = group.Enter(
      [this] { return acceptor_.url(); },
      [this](const std::string& address) { acceptor_.Announce(address); },
      [this](const std::string& address) { acceptor_.Published(address); },
      deadline);
  if (!addresses.ok()) return addresses.status();
  absl::StatusOr<DeviceRouter::Published> devices =
      ReadDevices(*store_, workers_, own, group.instances(), deadline);
  if (!devices.ok()) return devices.status();
  router_.SetPublished(*std::move(devices));
  // Stock workers know only their own keys.
  const std::vector<bool>& is_stock = group.is_stock();
  const bool any_stock =
      std::find(is_stock.begin(), is_stock.end(), true) != is_stock.end();
  quiescence_barrier_.UseKeys(any_stock ? "" : group.key_prefix(), is_stock);
  // The contacts are read now, so that the first connections need no store.
  std::vector<PeerSet::Contact> contacts;
  for (size_t id = 0; id < addresses->size(); ++id) {
    const MemberPtr peer = workers_.Find(static_cast<WorkerId>(id));
    const absl::StatusOr<std::string> text =
        store_->TryGet(FeaturesKey(peer->name), deadline);
    if (!text.ok() && !absl::IsNotFound(text.status())) return text.status();
    PeerFeatures features = ParseFeatures(text.value_or(""));
    // A stock worker publishes none. A member of the epoch may not have
    // published them yet, and the store may have those of an earlier run. But
    // it understands what all workers that enter epochs understand.
    uint64_t instance = 0;
    if (absl::SimpleHexAtoi(group.instances()[id], &instance) &&
        features.memory != instance) {
      features = ParseFeatures(OwnFeatures(instance));
    }
    contacts.push_back({std::move((*addresses)[id]), features});
  }
  bulk_peers_.SetContacts(contacts);
  peers_.SetContacts(std::move(contacts));
  return absl::OkStatus();
}

absl::Status Agent::Impl::Publish(std::string published, absl::Time deadline) {
  // The listener may be replaced meanwhile, so this goes on until the published
  // address is the present one.
  while (published != acceptor_.url()) {
    const std::string address = acceptor_.url();
    const absl::StatusOr<bool> replaced =
        ReplaceValue(*store_, AddressKey(workers_.self().name), published,
                     address, deadline);
    if (!replaced.ok()) return replaced.status();
    if (!*replaced) return absl::OkStatus();  // we were replaced already
    published = address;
    acceptor_.Published(published);
  }
  return absl::OkStatus();
}

absl::Status Agent::Impl::JoinDynamicGroup(absl::Time deadline) {
  const absl::Time until = BeforeReport(runtime_.Now(), deadline);
  absl::Status status;
  do {
    if (absl::IsAborted(status)) {
      LOG(WARNING) << workers_.self().name
                   << " joins again: " << status.message();
      store_->Pause(std::min(runtime_.Now() + kBeforeNextJoin, until));
    }
    const std::string address = acceptor_.url();
    acceptor_.Published(address);
    const absl::StatusOr<MemberEntry> joined = group_.Join(address, until);
    if (!joined.ok()) return joined.status();
    workers_.SetSelf(joined->worker.id);
    status = Publish(address, until);
    if (status.ok()) status = membership_.Start(until);
  } while (absl::IsAborted(status) && runtime_.Now() < until);
  if (!status.ok()) group_.Undo(deadline);
  if (absl::IsAborted(status)) {
    status = absl::DeadlineExceededError(
        absl::StrCat("could not join the group: ", status.message()));
  }
  return status;
}

absl::Status Agent::Impl::Leave(absl::Time deadline) {
  if (!workers_.is_dynamic()) {
    return absl::FailedPreconditionError(
        "a static group is left by all at once: call JoinForShutdown");
  }
  {
    MutexLock lock(mutex_);
    if (state_ != State::kRunning) {
      return absl::FailedPreconditionError(absl::StrCat(
          "agent ", workers_.self().name, " was shut down: it cannot leave"));
    }
    if (leaving_) {
      return absl::FailedPreconditionError(
          absl::StrCat("agent ", workers_.self().name,
                       " is already leaving, on another thread"));
    }
    leaving_ = true;
  }
  absl::Status status = LeaveDynamicGroup(deadline);
  VLOG(1) << workers_.self().name << " leaves: " << status;
  MutexLock lock(mutex_);
  leaving_ = false;
  changed_.NotifyAll();
  return status;
}

absl::Status Agent::Impl::LeaveDynamicGroup(absl::Time deadline) {
  const auto unfinished = [this](const char* what, Activity::Kind kind) {
    return absl::DeadlineExceededError(
        absl::StrCat("leave: worker ", workers_.self().name, " itself has ",
                     activity_->counts().running[kind], " ", what));
  };
  if (!activity_->WaitForNone(Activity::kCall, deadline)) {
    return unfinished("calls running", Activity::kCall);
  }
  if (absl::Status status = group_.Leave(deadline); !status.ok()) {
    return status;
  }
  if (REPRISE_PLANTED(leave_drops_replies)) return absl::OkStatus();
  // `left_others` is what the store said, as our own view of the group may be
  // old.
  if (group_.left_others()) {
    store_->Pause(std::min(
        deadline, runtime_.Now() + options_.membership_refresh + kToLearn));
  }
  if (!activity_->WaitForNone(Activity::kHandler, deadline)) {
    return unfinished("handlers running", Activity::kHandler);
  }
  if (!activity_->WaitForNone(Activity::kReply, deadline)) {
    return unfinished("replies to give", Activity::kReply);
  }
  if (!server_->WaitUntilWritten(deadline)) {
    return absl::DeadlineExceededError(
        absl::StrCat("leave: worker ", workers_.self().name,
                     " itself has replies that nobody takes"));
  }
  return absl::OkStatus();
}

absl::Status Agent::Impl::NotFound(std::string_view called,
                                   bool has_left) const {
  return absl::NotFoundError(
      absl::StrCat("name:", workers_.self().name, ",rank:", workers_.self().id,
                   " could not find destination ",
                   absl::string_view(called.data(), called.size()),
                   has_left ? ": it has left the group" : ""));
}

absl::Status Agent::Impl::NoSuchWorker(std::string_view name) const {
  return NotFound(name, workers_.HasLeft(name));
}

absl::Status Agent::Impl::NoSuchWorker(WorkerId id) const {
  return NotFound(absl::StrCat(id), workers_.HasLeft(id));
}

absl::StatusOr<WorkerInfo> Agent::Impl::WaitForWorker(std::string_view name,
                                                      absl::Time deadline) {
  if (workers_.is_dynamic()) return membership_.WaitFor(name, deadline);
  const MemberPtr member = workers_.Find(name);
  if (member == nullptr) return NoSuchWorker(name);
  return *member;
}

absl::StatusOr<DeviceMap> Agent::Impl::GetDeviceMap(
    std::string_view name) const {
  if (workers_.Find(name) == nullptr) return NoSuchWorker(name);
  const DeviceMap* const map = router_.MapTo(std::string(name));
  return map == nullptr ? DeviceMap() : *map;
}

absl::StatusOr<DeviceMap> Agent::Impl::GetReverseDeviceMap(
    std::string_view name) const {
  const MemberPtr member = workers_.Find(name);
  if (member == nullptr) return NoSuchWorker(name);
  return router_.WayBackTo(*member);
}

std::vector<Device> Agent::Impl::GetDevices() const { return router_.List(); }

}  // namespace reprise
