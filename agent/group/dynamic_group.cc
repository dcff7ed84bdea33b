#include "agent/group/dynamic_group.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <map>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "agent/group/deadline_margin.h"
#include "agent/group/rendezvous.h"
#include "agent/planted.h"
#include "agent/wire/call_extras.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// One that cannot be reached may be opening another listener just now.
constexpr int kProbes = 3;
constexpr absl::Duration kBetweenProbes = absl::Milliseconds(200);
constexpr absl::Duration kLongestProbe = absl::Seconds(2);

constexpr absl::Duration kBeforeNextAttempt = absl::Milliseconds(10);
constexpr int kStockAttempts = 4;
constexpr absl::Duration kLongestUndo = absl::Seconds(1);

std::string StockItem(const WorkerInfo& worker) {
  return absl::StrCat(worker.name, "-", worker.id);
}

// As PyTorch's workers read their list, for the planted defect `dash_in_name`.
bool StockParserThrows(const std::string& text) {
  for (const absl::string_view item :
       absl::StrSplit(text, ',', absl::SkipEmpty())) {
    const size_t dash = item.find('-');
    if (dash != item.npos && item.find('-', dash + 1) != item.npos) return true;
  }
  return false;
}

bool GoesIntoStockList(const std::string& name) {
  return CanBeInStockList(name) || REPRISE_PLANTED(dash_in_name);
}

absl::Status LookAgain() {
  return absl::AbortedError("the group changed meanwhile");
}

bool IsById(const MemberEntry& a, const MemberEntry& b) {
  return a.worker.id < b.worker.id;
}

}  // namespace

DynamicGroup::DynamicGroup(Runtime& runtime, StoreClient& store,
                           const AgentOptions& options, IsDead is_dead)
    : runtime_(runtime),
      store_(store),
      options_(options),
      is_dead_(std::move(is_dead)),
      devices_{options.device_maps, options.devices, options.device_count} {}

absl::StatusOr<DynamicGroup::Texts> DynamicGroup::Read(absl::Time deadline) {
  Texts texts;
  for (auto& [key, text] :
       {std::pair<std::string_view, std::string*>(kMembersKey, &texts.members),
        {kStockMembersKey, &texts.stock}}) {
    absl::StatusOr<std::string> value = store_.TryGet(key, deadline);
    if (value.ok()) {
      *text = *std::move(value);
    } else if (!absl::IsNotFound(value.status())) {
      return value.status();
    }
  }
  return texts;
}

absl::StatusOr<DynamicGroup::GroupState> DynamicGroup::ParseState(Texts texts) {
  absl::StatusOr<MemberList> members = ParseMemberList(texts.members);
  if (!members.ok()) return members.status();
  if (REPRISE_PLANTED(dash_in_name) && StockParserThrows(texts.stock)) {
    return absl::InvalidArgumentError("stoi");
  }
  GroupState state;
  state.members = *std::move(members);
  state.stock = ParseStockMembers(texts.stock);
  state.texts = std::move(texts);
  return state;
}

absl::StatusOr<DynamicGroup::GroupState> DynamicGroup::ReadState(
    absl::Time deadline) {
  absl::StatusOr<Texts> texts = Read(deadline);
  if (texts.ok()) texts = ReadConsistent(*std::move(texts), deadline);
  if (!texts.ok()) return texts.status();
  return ParseState(*std::move(texts));
}

absl::StatusOr<DynamicGroup::Texts> DynamicGroup::ReadConsistent(
    Texts texts, absl::Time deadline) {
  do {
    absl::StatusOr<GroupState> state = ParseState(texts);
    if (!state.ok()) return state.status();
    const size_t num_ours = state->members.members.size();
    // Whoever is in our list enters it before the other one and leaves it
    // after. Those in the other one alone are stock workers, then, or have come
    // or gone between the two reads.
    if (Merge(*std::move(state)).size() == num_ours) return texts;
    absl::StatusOr<Texts> again = Read(deadline);
    if (!again.ok()) return again.status();
    if (again->members == texts.members) return texts;
    texts = *std::move(again);
  } while (runtime_.Now() < deadline);
  return absl::DeadlineExceededError(
      "the group changes faster than its lists can be read");
}

std::vector<MemberEntry> DynamicGroup::Merge(GroupState state) {
  std::vector<MemberEntry> all = std::move(state.members.members);
  // As members write it; others may not.
  if (!std::is_sorted(all.begin(), all.end(), IsById)) {
    std::sort(all.begin(), all.end(), IsById);
  }
  const size_t num_ours = all.size();
  for (WorkerInfo& worker : state.stock) {
    const auto begin = all.begin();
    const auto end = begin + static_cast<std::ptrdiff_t>(num_ours);
    const auto found = std::lower_bound(
        begin, end, worker.id, [](const MemberEntry& entry, WorkerId id) {
          return entry.worker.id < id;
        });
    const bool is_known =
        (found != end && found->worker.id == worker.id) ||
        std::any_of(all.begin(), all.end(), [&](const MemberEntry& entry) {
          return entry.worker.name == worker.name ||
                 entry.worker.id == worker.id;
        });
    if (!is_known) all.push_back({std::move(worker), 0, false, ""});
  }
  if (all.size() > num_ours) std::sort(all.begin(), all.end(), IsById);
  return all;
}

absl::StatusOr<std::vector<MemberEntry>> DynamicGroup::Parse(
    const Texts& texts) {
  absl::StatusOr<GroupState> state = ParseState(texts);
  if (!state.ok()) return state.status();
  return Merge(*std::move(state));
}

absl::StatusOr<DeviceInfo> DynamicGroup::ReadDevices(const MemberEntry& entry,
                                                     absl::Time deadline) {
  if (!entry.has_devices) return DeviceInfo();
  const absl::StatusOr<std::string> text = store_.TryGet(
      DevicesKey({entry.worker.name, entry.incarnation}), deadline);
  if (!text.ok()) return text.status();
  absl::StatusOr<DeviceInfo> info = ParseDeviceInfo(*text);
  if (info.ok()) return info;
  LOG(WARNING) << entry.worker.name << ": " << info.status().message();
  return DeviceInfo();
}

std::string DynamicGroup::DevicesKey(const Identity& who) const {
  return absl::StrCat("reprise/devices/", who.first, "/", who.second);
}

const MemberEntry* DynamicGroup::FindOurs(const MemberList& list) const {
  for (const MemberEntry& entry : list.members) {
    if (entry.worker.name == options_.name && entry.address == address_ &&
        attempts_.contains(entry.incarnation)) {
      return &entry;
    }
  }
  return nullptr;
}

bool DynamicGroup::IsRival(const MemberEntry& entry) const {
  return entry.worker.name == options_.name ||
         (options_.id != kAnyId && entry.worker.id == options_.id);
}

bool DynamicGroup::IsProvenDead(const MemberEntry& entry) const {
  return dead_.contains({entry.worker.name, entry.incarnation});
}

GroupToken DynamicGroup::MakeToken(std::string_view purpose) {
  return GroupToken(runtime_, store_, options_.name, purpose,
                    absl::StrCat(address_, "#", ++tokens_made_),
                    options_.token_lease);
}

absl::StatusOr<MemberEntry> DynamicGroup::Join(const std::string& address,
                                               absl::Time deadline) {
  address_ = address;
  const absl::Time until = BeforeReport(runtime_.Now(), deadline);
  absl::Status status;
  do {
    if (absl::IsAborted(status)) {
      store_.Pause(std::min(runtime_.Now() + kBeforeNextAttempt, until));
    }
    const absl::StatusOr<GroupState> state = ReadState(until);
    status = state.ok() ? ProbeRivals(*state, until) : state.status();
    if (!status.ok()) continue;
    GroupToken token = MakeToken("join");
    status = token.Acquire(until);
    if (!status.ok()) continue;
    status = JoinWithToken(std::min(until, token.held_until()));
    if (status.ok()) {
      token.Release(deadline);
      return *ours_;
    }
    // It took longer than one may hold the token.
    if (absl::IsDeadlineExceeded(status) && runtime_.Now() < until) {
      status = absl::AbortedError(status.message());
    }
  } while (absl::IsAborted(status) && runtime_.Now() < until);
  if (!attempts_.empty()) Undo(deadline);
  if (absl::IsAborted(status)) {
    status = absl::DeadlineExceededError(
        absl::StrCat("could not join the group: ", status.message()));
  }
  return status;
}

absl::Status DynamicGroup::ProbeRivals(const GroupState& state,
                                       absl::Time deadline) {
  for (const MemberEntry& entry : Merge(state)) {
    const MemberEntry* const ours = FindOurs(state.members);
    if (!IsRival(entry) || IsProvenDead(entry) ||
        (ours != nullptr && *ours == entry)) {
      continue;
    }
    // Where it was, we are.
    bool is_dead = entry.address == address_;
    for (int probe = 0; probe < kProbes && !is_dead; ++probe) {
      if (REPRISE_PLANTED(stale_record_poisons)) break;
      if (probe > 0) store_.Pause(runtime_.Now() + kBetweenProbes);
      const absl::StatusOr<std::string> published =
          store_.TryGet(AddressKey(entry.worker.name), deadline);
      if (!published.ok() && !absl::IsNotFound(published.status())) {
        return published.status();
      }
      const std::string where = published.value_or(entry.address);
      if (!where.empty() && where != address_ &&
          !is_dead_(where,
                    std::min(deadline, runtime_.Now() + kLongestProbe))) {
        break;
      }
      is_dead = probe + 1 == kProbes;
    }
    if (is_dead) {
      LOG(WARNING) << "worker " << entry.worker.name << " of id "
                   << entry.worker.id << " is dead, and gives way to "
                   << options_.name;
      dead_.insert({entry.worker.name, entry.incarnation});
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

absl::Status DynamicGroup::JoinWithToken(absl::Time deadline) {
  const absl::StatusOr<GroupState> state = ReadState(deadline);
  if (!state.ok()) return state.status();
  if (const MemberEntry* const ours = FindOurs(state->members)) {
    ours_ = *ours;
  } else if (absl::Status status = Enter(*state, deadline); !status.ok()) {
    return status;
  }
  std::vector<WorkerInfo> replaced;
  for (const MemberEntry& entry : replaced_) replaced.push_back(entry.worker);
  if (absl::Status status = UpdateStock(replaced, &ours_->worker, deadline);
      !status.ok()) {
    return status;
  }
  for (const MemberEntry& entry : replaced_) Forget(entry, deadline);
  return absl::OkStatus();
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
    while (taken.contains(entry.worker.id)) {
      if (entry.worker.id == std::numeric_limits<WorkerId>::max()) {
        return absl::ResourceExhaustedError("no id is free in the group");
      }
      ++entry.worker.id;
    }
  } else {
    entry.worker.id = static_cast<WorkerId>(options_.id);
  }
  entry.incarnation = state.members.version + 1;
  entry.has_devices = !devices_.empty();
  entry.address = address_;
  if (absl::Status status = ValidateAgainst(others, deadline); !status.ok()) {
    return status;
  }

  const std::string name_key = NameKey(entry.worker.id);
  const absl::StatusOr<std::string> named = store_.TryGet(name_key, deadline);
  if (!named.ok() && !absl::IsNotFound(named.status())) return named.status();
  // Stock workers leave theirs behind; the list says who is there.
  const absl::StatusOr<std::string> claimed =
      store_.CompareSet(name_key, named.value_or(""), options_.name, deadline);
  if (!claimed.ok()) return claimed.status();
  if (*claimed != options_.name) return LookAgain();
  absl::Status status = store_.Set(FeaturesKey(options_.name),
                                   std::string(OwnFeatures()), deadline);
  if (status.ok()) {
    status = store_.Set(AddressKey(options_.name), address_, deadline);
  }
  if (status.ok() && entry.has_devices) {
    status = store_.Set(DevicesKey({options_.name, entry.incarnation}),
                        Format(devices_), deadline);
  }
  if (!status.ok()) return status;

  MemberList next;
  next.version = entry.incarnation;
  for (MemberEntry& other : others) {
    if (other.incarnation > 0) next.members.push_back(std::move(other));
  }
  next.members.push_back(entry);
  std::sort(next.members.begin(), next.members.end(), IsById);
  attempts_.insert(entry.incarnation);
  const std::string desired = Format(next);
  const absl::StatusOr<std::string> present =
      store_.CompareSet(kMembersKey, state.texts.members, desired, deadline);
  if (!present.ok()) return present.status();
  if (*present != desired) return LookAgain();
  ours_ = std::move(entry);
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
    // Whoever had a name or an id before them goes too: once they are gone, it
    // would look like a stock worker.
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
      Leave(std::max(deadline, runtime_.Now() + kLongestUndo));
  if (!status.ok()) {
    LOG(WARNING) << options_.name << " may be left in the group's list after "
                 << "a join that failed: " << status.message();
  }
}

absl::Status DynamicGroup::Leave(absl::Time deadline) {
  if (!ours_.has_value() && attempts_.empty()) return absl::OkStatus();
  absl::Status status;
  do {
    GroupToken token = MakeToken("leave");
    status = token.Acquire(deadline);
    if (!status.ok()) return status;
    status = LeaveWithToken(std::min(deadline, token.held_until()));
    if (status.ok()) {
      token.Release(deadline);
    } else if (absl::IsDeadlineExceeded(status) && runtime_.Now() < deadline) {
      status = absl::AbortedError(status.message());
    }
  } while (absl::IsAborted(status) && runtime_.Now() < deadline);
  return absl::IsAborted(status) ? absl::DeadlineExceededError(status.message())
                                 : status;
}

absl::Status DynamicGroup::LeaveWithToken(absl::Time deadline) {
  const absl::StatusOr<GroupState> state = ReadState(deadline);
  if (!state.ok()) return state.status();
  if (const MemberEntry* const ours = FindOurs(state->members)) {
    const MemberEntry entry = *ours;
    // What this list has, the other one has too: in this order.
    if (absl::Status status = UpdateStock({entry.worker}, nullptr, deadline);
        !status.ok()) {
      return status;
    }
    MemberList next = state->members;
    ++next.version;
    std::erase(next.members, entry);
    const std::string desired = Format(next);
    const absl::StatusOr<std::string> present =
        store_.CompareSet(kMembersKey, state->texts.members, desired, deadline);
    if (!present.ok()) return present.status();
    if (*present != desired) return LookAgain();
    left_others_ = Merge(*state).size() > 1;
    Forget(entry, deadline);
  }
  ours_.reset();
  attempts_.clear();
  return absl::OkStatus();
}

void DynamicGroup::Forget(const MemberEntry& entry, absl::Time deadline) {
  // What stays harms nobody.
  const bool is_ours = ours_.has_value() && entry == *ours_;
  const bool leaves = is_ours || !ours_.has_value();
  if (leaves || entry.worker.id != ours_->worker.id) {
    store_.CompareSet(NameKey(entry.worker.id), entry.worker.name, "", deadline)
        .IgnoreError();
  }
  if (leaves || entry.worker.name != ours_->worker.name) {
    store_.Delete(AddressKey(entry.worker.name), deadline).IgnoreError();
    store_.Delete(FeaturesKey(entry.worker.name), deadline).IgnoreError();
  }
  if (entry.has_devices) {
    store_.Delete(DevicesKey({entry.worker.name, entry.incarnation}), deadline)
        .IgnoreError();
  }
}

}  // namespace reprise
