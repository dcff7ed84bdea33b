#include "agent/group/dynamic_group.h"

#include <algorithm>
#include <map>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "agent/group/deadline_margin.h"
#include "agent/group/rendezvous.h"
#include "agent/planted.h"
#include "agent/probe.h"
#include "agent/wire/call_extras.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// A member that refuses connections may be opening another listener just now.
constexpr int kChecks = 3;
constexpr absl::Duration kBetweenChecks = absl::Milliseconds(200);
constexpr absl::Duration kLongestCheck = absl::Seconds(2);

constexpr absl::Duration kBeforeNextAttempt = absl::Milliseconds(10);
constexpr int kStockAttempts = 4;
// Also after the deadline of the join.
constexpr absl::Duration kShortestUndo = absl::Milliseconds(200);

std::string StockItem(const WorkerInfo& worker) {
  return absl::StrCat(worker.name, "-", worker.id);
}

bool GoesIntoStockList(const std::string& name) {
  return CanBeInStockList(name) || REPRISE_PLANTED(dash_in_name);
}

absl::Status LookAgain() {
  return absl::AbortedError("the group changed meanwhile");
}

}  // namespace

DynamicGroup::DynamicGroup(Runtime& runtime, StoreClient& store,
                           const AgentOptions& options, std::string features,
                           Check check, Tell tell)
    : runtime_(runtime),
      store_(store),
      options_(options),
      features_(std::move(features)),
      check_(std::move(check)),
      tell_(std::move(tell)),
      devices_{options.device_maps, options.devices, options.device_count},
      mutex_(runtime, "DynamicGroup") {}

const MemberEntry* DynamicGroup::FindOurs(const MemberList& list) const {
  for (const MemberEntry& entry : list.members) {
    if (entry.worker.name == options_.name && entry.address == address_ &&
        attempts_.contains(entry.incarnation)) {
      return &entry;
    }
  }
  return nullptr;
}

bool DynamicGroup::IsIn(const std::vector<MemberEntry>& members) const {
  return ours_.has_value() &&
         std::find(members.begin(), members.end(), *ours_) != members.end();
}

bool DynamicGroup::IsRival(const MemberEntry& entry) const {
  return entry.worker.name == options_.name ||
         (options_.id != kAnyId && entry.worker.id == options_.id);
}

DynamicGroup::Identity DynamicGroup::IdentityOf(const MemberEntry& entry) {
  return {entry.worker.name, entry.incarnation, entry.address};
}

bool DynamicGroup::IsProvenDead(const MemberEntry& entry) const {
  return dead_.contains(IdentityOf(entry));
}

GroupToken DynamicGroup::MakeToken(std::string_view purpose,
                                   absl::Time release_by) {
  return GroupToken(runtime_, store_, options_.name, purpose,
                    absl::StrCat(address_, "#", ++tokens_made_),
                    options_.token_lease, release_by);
}

absl::StatusOr<MemberEntry> DynamicGroup::Join(const std::string& address,
                                               absl::Time deadline) {
  address_ = address;
  const absl::Time until = BeforeReport(runtime_.Now(), deadline);
  absl::Status status;
  absl::Status doubt;  // of the last check of our rivals
  do {
    if (absl::IsAborted(status)) {
      store_.Pause(std::min(runtime_.Now() + kBeforeNextAttempt, until));
    }
    const absl::StatusOr<GroupState> state = ReadState(until);
    status = state.status();
    if (!status.ok()) continue;
    status = doubt = CheckRivals(*state, until);
    if (!status.ok()) continue;
    GroupToken token = MakeToken("join", deadline);
    status = token.Acquire(until);
    if (!status.ok()) continue;
    news_.clear();
    status = JoinWithToken(std::min(until, token.held_until()));
    if (status.ok()) {
      TellStock(std::move(news_), std::min(until, token.held_until()));
      token.Release(deadline);
      return *ours_;
    }
    // It took longer than the token may be held.
    if (absl::IsDeadlineExceeded(status) && runtime_.Now() < until) {
      status = absl::AbortedError(status.message());
    }
  } while (absl::IsAborted(status) && runtime_.Now() < until);
  if (!attempts_.empty()) Undo(deadline);
  // What the last check of a rival found is a better reason than an access to
  // the store that came too late.
  if (absl::IsDeadlineExceeded(status) && absl::IsAborted(doubt)) {
    status = doubt;
  }
  if (absl::IsAborted(status)) {
    status = absl::DeadlineExceededError(
        absl::StrCat("could not join the group: ", status.message()));
  }
  return status;
}

absl::Status DynamicGroup::CheckRivals(const GroupState& state,
                                       absl::Time deadline) {
  for (const MemberEntry& entry : Merge(state)) {
    const MemberEntry* const ours = FindOurs(state.members);
    if (!IsRival(entry) || IsProvenDead(entry) ||
        (ours != nullptr && *ours == entry)) {
      continue;
    }
    std::string published;
    const absl::StatusOr<Liveness> rival =
        CheckMember(entry, kLongestCheck, published, deadline);
    if (!rival.ok()) return rival.status();
    if (rival->state == Liveness::State::kDead) {
      LOG(WARNING) << "worker " << entry.worker.name << " of id "
                   << entry.worker.id << " is dead, and gives way to "
                   << options_.name;
      dead_[IdentityOf(entry)] = published;
    } else if (rival->state == Liveness::State::kFailed) {
      store_.Pause(std::min(runtime_.Now() + kBetweenChecks, deadline));
      return absl::AbortedError(absl::StrCat(
          "whether worker ", entry.worker.name, " of id ", entry.worker.id,
          " at ", entry.address, " still lives is not known: ", rival->cause));
    } else if (entry.worker.name == options_.name) {
      return absl::AlreadyExistsError(absl::StrCat(
          "RPC worker name ", options_.name, " is not unique. Workers ",
          entry.worker.id, " and ",
          options_.id == kAnyId ? "a new one" : absl::StrCat(options_.id),
          " share the same name."));
    } else {
      return absl::AlreadyExistsError(
          absl::StrCat("RPC worker id ", options_.id, " is taken by worker '",
                       entry.worker.name, "'; worker '", options_.name,
                       "' cannot have it too."));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Liveness> DynamicGroup::CheckMember(const MemberEntry& entry,
                                                   absl::Duration longest,
                                                   std::string& published,
                                                   absl::Time deadline) {
  Liveness found{Liveness::State::kDead, "", ""};
  // It was at our own address, so it is gone.
  if (entry.address == address_) return found;
  // A stock worker does not answer us.
  const AskInstance ask =
      entry.incarnation > 0 ? AskInstance::kYes : AskInstance::kNo;
  for (int check = 0; check < kChecks; ++check) {
    if (REPRISE_PLANTED(stale_record_poisons)) {
      return Liveness{Liveness::State::kSilent, "", "it was not asked"};
    }
    if (check > 0) store_.Pause(runtime_.Now() + kBetweenChecks);
    absl::StatusOr<std::string> present =
        store_.TryGet(AddressKey(entry.worker.name), deadline);
    if (!present.ok() && !absl::IsNotFound(present.status())) {
      return present.status();
    }
    published = present.value_or("");
    const std::string& where = published.empty() ? entry.address : published;
    // It has published no address, or the address is ours.
    if (where.empty() || where == address_) continue;
    found = check_(where, ask, std::min(deadline, runtime_.Now() + longest));
    if (found.state != Liveness::State::kDead) return found;
  }
  return found;
}

absl::StatusOr<std::string> DynamicGroup::ReadOrEmpty(const std::string& key,
                                                      absl::Time deadline) {
  absl::StatusOr<std::string> value = store_.TryGet(key, deadline);
  if (absl::IsNotFound(value.status())) return std::string();
  return value;
}

absl::Status DynamicGroup::JoinWithToken(absl::Time deadline) {
  // These are read before the list: a worker that changes them later is in the
  // list, and we are not.
  absl::StatusOr<std::string> published =
      ReadOrEmpty(AddressKey(options_.name), deadline);
  if (!published.ok()) return published.status();
  absl::StatusOr<std::string> features =
      ReadOrEmpty(FeaturesKey(options_.name), deadline);
  if (!features.ok()) return features.status();
  const absl::StatusOr<GroupState> state = ReadState(deadline);
  if (!state.ok()) return state.status();
  if (const MemberEntry* const ours = FindOurs(state->members)) {
    ours_ = *ours;
  } else {
    // The features come before the list, so that a worker that finds us finds
    // them.
    absl::Status status =
        Replace(FeaturesKey(options_.name), *features, features_, deadline);
    if (status.ok()) status = Enter(*state, deadline);
    if (!status.ok()) return status;
  }
  absl::Status status = ClaimId(ours_->worker.id, deadline);
  if (status.ok()) {
    status = Replace(AddressKey(options_.name), *published, address_, deadline);
  }
  std::vector<WorkerInfo> replaced;
  for (const MemberEntry& entry : replaced_) replaced.push_back(entry.worker);
  if (status.ok()) status = UpdateStock(replaced, &ours_->worker, deadline);
  if (!status.ok()) return status;
  const std::vector<MemberEntry> group = Merge(*state);
  for (const MemberEntry& entry : replaced_) {
    Forget(entry, dead_[IdentityOf(entry)], deadline);
    AddNews(entry.worker, /*is_join=*/false, group);
  }
  AddNews(ours_->worker, /*is_join=*/true, group);
  return absl::OkStatus();
}

absl::Status DynamicGroup::Replace(const std::string& key, std::string present,
                                   std::string_view desired,
                                   absl::Time deadline) {
  if (present == desired) return absl::OkStatus();
  const absl::StatusOr<bool> replaced =
      ReplaceValue(store_, key, present, std::string(desired), deadline);
  if (!replaced.ok()) return replaced.status();
  return *replaced ? absl::OkStatus() : LookAgain();
}

absl::Status DynamicGroup::ClaimId(WorkerId id, absl::Time deadline) {
  // Stock workers leave their keys behind, so only the list says who is there.
  const absl::StatusOr<std::string> named = ReadOrEmpty(NameKey(id), deadline);
  if (!named.ok()) return named.status();
  return Replace(NameKey(id), *named, options_.name, deadline);
}

absl::Status DynamicGroup::Enter(const GroupState& state, absl::Time deadline) {
  replaced_.clear();
  std::vector<MemberEntry> others;
  std::set<WorkerId> taken;
  for (MemberEntry& entry : Merge(state)) {
    if (IsRival(entry)) {
      if (!IsProvenDead(entry)) return LookAgain();
      replaced_.push_back(std::move(entry));
    } else {
      taken.insert(entry.worker.id);
      others.push_back(std::move(entry));
    }
  }
  MemberEntry entry;
  entry.worker.name = options_.name;
  if (options_.id == kAnyId) {
    const bool has_stock = std::any_of(
        others.begin(), others.end(),
        [](const MemberEntry& other) { return other.incarnation == 0; });
    const absl::StatusOr<WorkerId> id = ChooseId(taken, has_stock, deadline);
    if (!id.ok()) return id.status();
    entry.worker.id = *id;
  } else {
    entry.worker.id = static_cast<WorkerId>(options_.id);
  }
  entry.incarnation = state.members.version + 1;
  entry.has_devices = !devices_.empty();
  entry.address = address_;
  if (absl::Status status = ValidateAgainst(others, deadline); !status.ok()) {
    return status;
  }

  if (entry.has_devices) {
    const std::string key = DevicesKey(entry);
    const absl::StatusOr<std::string> before = ReadOrEmpty(key, deadline);
    if (!before.ok()) return before.status();
    if (absl::Status status = Replace(key, *before, Format(devices_), deadline);
        !status.ok()) {
      return status;
    }
  }

  MemberList next;
  next.version = entry.incarnation;
  for (MemberEntry& other : others) {
    if (other.incarnation > 0) next.members.push_back(std::move(other));
  }
  next.members.push_back(entry);
  std::sort(next.members.begin(), next.members.end(), MemberEntry::IsById);
  attempts_.insert(entry.incarnation);
  const std::string desired = Format(next);
  const absl::StatusOr<std::string> present =
      store_.CompareSet(kMembersKey, state.texts.members, desired, deadline);
  if (!present.ok()) return present.status();
  if (*present != desired) {
    REPRISE_PROBE("members changed while one joins");
    return LookAgain();
  }
  ours_ = std::move(entry);
  has_left_ = false;
  return absl::OkStatus();
}

absl::Status DynamicGroup::ValidateAgainst(
    const std::vector<MemberEntry>& others, absl::Time deadline) {
  std::map<std::string, DeviceInfo> workers = {{options_.name, devices_}};
  for (const MemberEntry& other : others) {
    if (!other.has_devices) continue;
    absl::StatusOr<DeviceInfo> info = ReadDevices(other, deadline);
    if (absl::IsNotFound(info.status())) continue;
    if (!info.ok()) return info.status();
    workers[other.worker.name] = *std::move(info);
  }
  return ValidateDevices(workers);
}

absl::Status DynamicGroup::UpdateStock(const std::vector<WorkerInfo>& remove,
                                       const WorkerInfo* add,
                                       absl::Time deadline) {
  for (int attempt = 0; attempt < kStockAttempts; ++attempt) {
    const absl::StatusOr<std::string> before =
        store_.TryGet(kStockMembersKey, deadline);
    if (!before.ok() && !absl::IsNotFound(before.status())) {
      return before.status();
    }
    const std::string text = before.value_or("");
    // Older entries with one of their names or ids are removed too: once these
    // workers are gone, such an entry would look like a stock worker.
    std::set<std::string> unwanted;
    for (const WorkerInfo& worker : ParseStockMembers(text)) {
      const auto clashes = [&worker](const WorkerInfo& other) {
        return worker.name == other.name || worker.id == other.id;
      };
      if ((add != nullptr && clashes(*add)) ||
          std::any_of(remove.begin(), remove.end(), clashes)) {
        unwanted.insert(StockItem(worker));
      }
    }
    std::string next;
    for (const absl::string_view item :
         absl::StrSplit(text, ',', absl::SkipEmpty())) {
      if (!unwanted.contains(std::string(item))) {
        absl::StrAppend(&next, item, ",");
      }
    }
    if (add != nullptr && GoesIntoStockList(add->name)) {
      absl::StrAppend(&next, StockItem(*add), ",");
    }
    if (next == text) return absl::OkStatus();
    const absl::StatusOr<std::string> present =
        store_.CompareSet(kStockMembersKey, text, next, deadline);
    if (!present.ok()) return present.status();
    if (*present == next) return absl::OkStatus();
  }
  return LookAgain();
}

void DynamicGroup::Undo(absl::Time deadline) {
  const absl::Status status =
      Leave(std::max(deadline, runtime_.Now() + kShortestUndo));
  if (!status.ok()) {
    LOG(WARNING) << options_.name << " may be left in the group's list after "
                 << "a join that failed: " << status.message();
  }
}

absl::Status DynamicGroup::Leave(absl::Time deadline) {
  if (!ours_.has_value() && attempts_.empty()) return absl::OkStatus();
  const absl::Time until = BeforeReport(runtime_.Now(), deadline);
  absl::Status status;
  do {
    GroupToken token = MakeToken("leave", deadline);
    status = token.Acquire(until);
    if (!status.ok()) return status;
    news_.clear();
    status = LeaveWithToken(std::min(until, token.held_until()));
    if (status.ok()) {
      TellStock(std::move(news_), std::min(until, token.held_until()));
      token.Release(deadline);
    } else if (absl::IsDeadlineExceeded(status) && runtime_.Now() < until) {
      status = absl::AbortedError(status.message());
    }
  } while (absl::IsAborted(status) && runtime_.Now() < until);
  return absl::IsAborted(status) ? absl::DeadlineExceededError(status.message())
                                 : status;
}

absl::Status DynamicGroup::LeaveWithToken(absl::Time deadline) {
  // The address is read before the list: as long as the list has us, the
  // address is ours.
  const absl::StatusOr<std::string> published =
      ReadOrEmpty(AddressKey(options_.name), deadline);
  if (!published.ok()) return published.status();
  const absl::StatusOr<GroupState> state = ReadState(deadline);
  if (!state.ok()) return state.status();
  if (const MemberEntry* const ours = FindOurs(state->members)) {
    const MemberEntry entry = *ours;
    // We leave the stock list first: what it has, the members' list must have
    // too.
    if (absl::Status status = UpdateStock({entry.worker}, nullptr, deadline);
        !status.ok()) {
      return status;
    }
    MemberList next = state->members;
    ++next.version;
    std::erase(next.members, entry);
    has_left_ = true;
    const std::string desired = Format(next);
    const absl::StatusOr<std::string> present =
        store_.CompareSet(kMembersKey, state->texts.members, desired, deadline);
    if (!present.ok()) return present.status();
    if (*present != desired) {
      REPRISE_PROBE("members changed while one leaves");
      return LookAgain();
    }
    const std::vector<MemberEntry> group = Merge(*state);
    left_others_ = group.size() > 1;
    AddNews(entry.worker, /*is_join=*/false, group);
    Forget(entry, *published, deadline);
  }
  ours_.reset();
  attempts_.clear();
  return absl::OkStatus();
}

void DynamicGroup::Forget(const MemberEntry& entry, std::string published,
                          absl::Time deadline) {
  // A key that stays does no harm.
  const bool is_ours = ours_.has_value() && entry == *ours_;
  const bool leaves = is_ours || !ours_.has_value();
  if (leaves || entry.worker.id != ours_->worker.id) {
    store_.CompareSet(NameKey(entry.worker.id), entry.worker.name, "", deadline)
        .IgnoreError();
  }
  if (!published.empty() &&
      (leaves || entry.worker.name != ours_->worker.name)) {
    // A store cannot compare and delete, so the value becomes empty.
    store_.CompareSet(AddressKey(entry.worker.name), published, "", deadline)
        .IgnoreError();
  }
  if (entry.has_devices) {
    // No other member has had this key, unless the store has lost the group
    // since.
    store_.Delete(DevicesKey(entry), deadline).IgnoreError();
  }
}

}  // namespace reprise
