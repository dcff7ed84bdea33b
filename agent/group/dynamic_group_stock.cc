// The part of dynamic_group.h that is for PyTorch's workers in the group.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "agent/group/dynamic_group.h"
#include "agent/group/rendezvous.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// Each piece of news takes that long if a stock member hangs.
constexpr absl::Duration kLongestTelling = absl::Seconds(2);

// Shorter than that of a rival, since a shutdown waits for it: who does not
// refuse at once is not proven dead, and is looked at again soon.
constexpr absl::Duration kLongestCheck = absl::Milliseconds(500);

// A stock worker does not say that it lives, so one that did not answer once is
// looked at that often, about once a second.
constexpr int kMostLooks = 60;

// A stock worker keeps its connections by the ids of its peers, those that are
// broken too: it can never call another worker with the id of one that it has
// called. Looking for an id that nobody has had takes an access to the store
// for each that somebody has had, so there is an end to it: after that many, or
// a quarter of the time, the lowest id that is free must do.
constexpr int kMostUsedIds = 1000;

bool IsStock(const MemberEntry& entry) { return entry.incarnation == 0; }

}  // namespace

void DynamicGroup::AddNews(const WorkerInfo& worker, bool is_join,
                           const std::vector<MemberEntry>& group) {
  StockNews news{
      .worker = worker, .is_join = is_join, .to = {}, .all_others = {}};
  for (const MemberEntry& entry : group) {
    if (entry.worker == worker) continue;
    news.all_others.push_back(entry.worker.name);
    // A rival that was replaced is dead.
    const bool is_replaced =
        std::find(replaced_.begin(), replaced_.end(), entry) != replaced_.end();
    if (IsStock(entry) && !is_replaced) news.to.push_back(entry.worker);
  }
  if (!news.to.empty()) news_.push_back(std::move(news));
}

absl::StatusOr<WorkerId> DynamicGroup::ChooseId(const std::set<WorkerId>& taken,
                                                bool is_for_stock,
                                                absl::Time deadline) {
  std::optional<WorkerId> lowest;
  int num_used = 0;
  const absl::Time begin = runtime_.Now();
  for (int32_t id = 0; id <= std::numeric_limits<WorkerId>::max(); ++id) {
    const auto candidate = static_cast<WorkerId>(id);
    if (taken.contains(candidate)) continue;
    if (!lowest.has_value()) lowest = candidate;
    if (!is_for_stock || num_used == kMostUsedIds ||
        runtime_.Now() - begin > (deadline - begin) / 4) {
      return *lowest;
    }
    // A worker that has left, or died, leaves this key behind.
    const absl::StatusOr<std::string> name =
        store_.TryGet(NameKey(candidate), deadline);
    if (absl::IsNotFound(name.status())) return candidate;
    if (!name.ok()) return name.status();
    ++num_used;
  }
  if (lowest.has_value()) return *lowest;
  return absl::ResourceExhaustedError("no id is free in the group");
}

void DynamicGroup::TellStock(std::vector<StockNews> news, absl::Time deadline) {
  for (const StockNews& item : news) {
    const absl::Time now = runtime_.Now();
    // What follows needs some of the time too.
    std::vector<WorkerInfo> suspects = tell_(
        item, std::min(now + (deadline - now) / 2, now + kLongestTelling));
    if (suspects.empty()) continue;
    MutexLock lock(mutex_);
    for (WorkerInfo& suspect : suspects) {
      suspects_.push_back({std::move(suspect), kMostLooks});
    }
  }
}

std::vector<DynamicGroup::Suspect> DynamicGroup::TakeSuspects(
    const GroupState& state) {
  std::vector<Suspect> taken;
  MutexLock lock(mutex_);
  for (Suspect& suspect : std::exchange(suspects_, {})) {
    // Each once, and none that is in PyTorch's list no more.
    const auto is_same = [&suspect](const Suspect& other) {
      return other.worker == suspect.worker;
    };
    if (std::find(state.stock.begin(), state.stock.end(), suspect.worker) !=
            state.stock.end() &&
        std::none_of(taken.begin(), taken.end(), is_same)) {
      taken.push_back(std::move(suspect));
    }
  }
  return taken;
}

std::optional<MemberEntry> DynamicGroup::NextListed(const GroupState& state,
                                                    const std::string& after) {
  std::vector<MemberEntry> listed;
  std::optional<WorkerId> own;
  for (const MemberEntry& entry : state.members.members) {
    if (entry.worker.name == after) own = entry.worker.id;
    if (entry.worker.name != after &&
        std::find(state.stock.begin(), state.stock.end(), entry.worker) !=
            state.stock.end()) {
      listed.push_back(entry);
    }
  }
  if (listed.empty() || !own.has_value()) return std::nullopt;
  std::sort(listed.begin(), listed.end(), MemberEntry::IsById);
  for (MemberEntry& entry : listed) {
    if (entry.worker.id > *own) return std::move(entry);
  }
  return listed.front();
}

absl::Status DynamicGroup::KeepStockList(absl::Time deadline) {
  if (absl::Status status = ReleaseDeadToken(deadline); !status.ok()) {
    return status;
  }
  const absl::StatusOr<GroupState> state = ReadState(deadline);
  if (!state.ok()) return state.status();
  absl::Status status;
  const auto next = NextListed(*state, options_.name);
  if (next.has_value() && !has_left_) {
    status.Update(EvictIfDead(*next, deadline).status());
  }
  for (Suspect& suspect : TakeSuspects(*state)) {
    if (has_left_) break;
    const absl::StatusOr<bool> was_dead =
        EvictIfDead({suspect.worker, 0, false, ""}, deadline);
    status.Update(was_dead.status());
    if (was_dead.value_or(false) || --suspect.looks_left == 0) continue;
    MutexLock lock(mutex_);
    suspects_.push_back(std::move(suspect));
  }
  return status;
}

absl::StatusOr<bool> DynamicGroup::EvictIfDead(const MemberEntry& entry,
                                               absl::Time deadline) {
  std::string published;
  const absl::StatusOr<Liveness> found =
      CheckMember(entry, kLongestCheck, published, deadline);
  if (!found.ok()) return found.status();
  // A stock worker without an address may be about to publish one.
  const bool was_asked = !published.empty() || !entry.address.empty();
  if (found->state != Liveness::State::kDead || !was_asked || has_left_) {
    return false;
  }
  absl::Status status = EvictFromStockList(entry, published, deadline);
  if (!status.ok()) return status;
  return true;
}

absl::Status DynamicGroup::EvictFromStockList(const MemberEntry& dead,
                                              const std::string& published,
                                              absl::Time deadline) {
  GroupToken token = MakeToken("evict", deadline);
  absl::Status status = token.Acquire(deadline);
  if (!status.ok()) return status;
  const absl::Time until = std::min(deadline, token.held_until());
  const absl::StatusOr<std::string> address =
      ReadOrEmpty(AddressKey(dead.worker.name), until);
  if (!address.ok()) return address.status();
  const absl::StatusOr<GroupState> state = ReadState(until);
  if (!state.ok()) return state.status();
  const std::vector<MemberEntry> members = Merge(*state);
  // Another may have come in its place meanwhile, or may have done this.
  if (*address != published ||
      std::find(members.begin(), members.end(), dead) == members.end() ||
      std::find(state->stock.begin(), state->stock.end(), dead.worker) ==
          state->stock.end()) {
    return absl::OkStatus();
  }
  status = UpdateStock({dead.worker}, nullptr, until);
  if (!status.ok()) return status;
  LOG(WARNING) << "worker " << dead.worker.name << " of id " << dead.worker.id
               << " is dead: " << options_.name
               << " takes it off the list of PyTorch's workers";
  StockNews news{
      .worker = dead.worker, .is_join = false, .to = {}, .all_others = {}};
  for (const MemberEntry& entry : members) {
    if (entry == dead) continue;
    news.all_others.push_back(entry.worker.name);
    if (IsStock(entry)) news.to.push_back(entry.worker);
  }
  TellStock({std::move(news)}, until);
  token.Release(deadline);
  return absl::OkStatus();
}

absl::Status DynamicGroup::ReleaseDeadToken(absl::Time deadline) {
  absl::StatusOr<std::string> seen = GroupToken::LeasedBy(store_, deadline);
  if (!seen.ok()) return seen.status();
  // It must have stood still for some time already, as it seldom does: whoever
  // asks for the lock gets in the way of those that need it.
  if (seen->empty() || *seen != last_token_) {
    last_token_ = *std::move(seen);
    return absl::OkStatus();
  }
  GroupToken token = MakeToken("evict", deadline);
  absl::Status status = token.Acquire(deadline);
  if (status.ok()) token.Release(deadline);
  last_token_.clear();
  return status;
}

}  // namespace reprise
