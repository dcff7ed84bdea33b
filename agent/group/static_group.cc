#include "agent/group/static_group.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/group/deadline_margin.h"
#include "agent/group/rendezvous.h"
#include "agent/planted.h"
#include "agent/wire/call_extras.h"
#include "glog/logging.h"

namespace reprise {
namespace {

constexpr absl::Duration kBetweenChecks = absl::Milliseconds(200);

// How long to wait for marks before looking for other signs of members.
constexpr absl::Duration kFirstWait = absl::Milliseconds(20);
constexpr absl::Duration kLongestWait = absl::Seconds(1);
// So that a look at a large group that is incomplete stays short: no check
// begins later than this after the first.
constexpr int kMostChecksAtATime = 4;
constexpr absl::Duration kLongestLook = absl::Seconds(4);

absl::Status TryAgain(std::string_view why) {
  return absl::AbortedError(absl::string_view(why.data(), why.size()));
}

constexpr std::string_view kLost = "the store has lost the group";
constexpr std::string_view kTaken = "another worker has taken our place";

}  // namespace

StaticGroup::StaticGroup(Runtime& runtime, StoreClient& store,
                         const AgentOptions& options,
                         const WorkerDirectory& workers, std::string instance,
                         std::string features, Keep keep, Check check)
    : runtime_(runtime),
      store_(store),
      options_(options),
      workers_(workers),
      instance_(std::move(instance)),
      features_(std::move(features)),
      keep_(std::move(keep)),
      check_(std::move(check)) {}

std::string StaticGroup::MemberKey(const std::string& epoch, int64_t id) const {
  return absl::StrCat("reprise/epoch/", epoch, "/", id);
}

std::string StaticGroup::MakeMark() const {
  const std::string address = url_();
  on_announced_(address);
  return absl::StrCat(instance_, " ", address);
}

std::string StaticGroup::key_prefix() const {
  return absl::StrCat("reprise/epoch/", epoch_, "/");
}

absl::StatusOr<std::vector<std::string>> StaticGroup::Enter(
    std::function<std::string()> url,
    std::function<void(const std::string&)> on_announced,
    std::function<void(const std::string&)> on_published, absl::Time deadline) {
  url_ = std::move(url);
  on_announced_ = std::move(on_announced);
  on_published_ = std::move(on_published);
  // What another of our name writes from now on is not overwritten.
  absl::StatusOr<std::string> published =
      store_.TryGet(AddressKey(options_.name), deadline);
  if (!published.ok() && !absl::IsNotFound(published.status())) {
    return published.status();
  }
  published_ = published.value_or("");
  const absl::Time until = BeforeReport(runtime_.Now(), deadline);
  absl::Status status;
  std::string undecided;
  do {
    if (absl::IsAborted(status)) {
      undecided = std::string(status.message());
      store_.Pause(std::min(runtime_.Now() + kBetweenChecks, until));
    }
    waits_ = false;
    status = TryToEnter(until);
  } while (absl::IsAborted(status) && runtime_.Now() < until);
  // An access to the store that came too late is not the reason.
  if (absl::IsDeadlineExceeded(status) && !waits_ && !undecided.empty()) {
    status = TryAgain(undecided);
  }
  if (!status.ok()) Withdraw(deadline);
  if (absl::IsAborted(status)) {
    status = absl::DeadlineExceededError(
        absl::StrCat("could not enter the group: ", status.message()));
  }
  if (!status.ok()) return status;
  return addresses_;
}

absl::Status StaticGroup::TryToEnter(absl::Time deadline) {
  const absl::StatusOr<Epoch> epoch = FindEpoch(deadline);
  if (!epoch.ok()) return epoch.status();
  const std::string mark = MakeMark();
  const absl::StatusOr<std::string> present = store_.CompareSet(
      MemberKey(epoch->name, options_.id), our_place_, mark, deadline);
  if (!present.ok()) return present.status();
  if (*present != mark) {
    return TryAgain("another worker takes our place at the same time");
  }
  epoch_ = epoch->name;
  mark_ = mark;
  const absl::StatusOr<Epoch> now = ReadEnteredEpoch(deadline);
  if (!now.ok()) return now.status();
  is_late_ = now->complete;
  // Before the address, so that a worker that finds the one finds the other.
  if (absl::Status status =
          store_.Set(FeaturesKey(options_.name), features_, deadline);
      !status.ok()) {
    return status;
  }
  if (absl::Status status = Publish(deadline); !status.ok()) return status;
  if (absl::Status status = WaitForAll(*epoch, deadline); !status.ok()) {
    return status;
  }
  return Complete(*epoch, deadline);
}

absl::StatusOr<Epoch> StaticGroup::ReadEpoch(absl::Time deadline) {
  absl::StatusOr<std::string> text = store_.TryGet(kEpochKey, deadline);
  if (!text.ok()) return text.status();
  return ParseEpoch(*std::move(text));
}

absl::StatusOr<Epoch> StaticGroup::ReadEnteredEpoch(absl::Time deadline) {
  absl::StatusOr<Epoch> epoch = ReadEpoch(deadline);
  if (absl::IsNotFound(epoch.status())) return OnLost();
  return epoch;
}

absl::Status StaticGroup::OnLost() {
  is_lost_ = true;
  return TryAgain(kLost);
}

absl::StatusOr<Epoch> StaticGroup::FindEpoch(absl::Time deadline) {
  absl::StatusOr<Epoch> epoch = ReadEpoch(deadline);
  const bool is_gone = absl::IsNotFound(epoch.status());
  if (is_lost_ || (is_gone && !epoch_.empty())) {
    LOG(WARNING) << "worker " << options_.name
                 << " enters the group again: " << kLost;
    if (absl::Status status = keep_(deadline); !status.ok()) return status;
    is_lost_ = false;
    is_published_ = false;
    published_.clear();
  }
  if (is_gone) return BeginEpoch({}, deadline);
  if (!epoch.ok()) return epoch;
  if (!epoch->before.empty()) {
    std::string place_before;
    if (absl::Status status =
            CheckOurPlace(epoch->before, place_before, deadline);
        !status.ok()) {
      return status;
    }
  }
  if (absl::Status status = CheckOurPlace(epoch->name, our_place_, deadline);
      !status.ok()) {
    return status;
  }
  if (SplitMark(our_place_).first == instance_) return epoch;  // we are in it
  if (REPRISE_PLANTED(leftovers_make_a_group)) return epoch;

  // The member that began it is the likeliest to be in it.
  const auto size = static_cast<int64_t>(workers_.size());
  std::vector<int64_t> ids = {FounderOf(epoch->name)};
  for (int64_t id = 0; id < size; ++id) ids.push_back(id);
  std::string undecided;
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t id = ids[i];
    if (id == options_.id || id >= size || (i > 0 && id == ids[0])) continue;
    const absl::StatusOr<Verdict> verdict =
        JudgeMember(epoch->name, id, deadline);
    if (!verdict.ok()) return verdict.status();
    if (*verdict == Verdict::kAlive) return epoch;
    if (*verdict == Verdict::kUnknown) undecided = left_over_[id];
  }
  if (!undecided.empty()) return TryAgain(undecided);
  return BeginEpoch(*epoch, deadline);
}

absl::StatusOr<Epoch> StaticGroup::BeginEpoch(const Epoch& left_over,
                                              absl::Time deadline) {
  Epoch epoch;
  epoch.name = absl::StrCat(options_.id, "-", instance_, ".", ++begun_);
  epoch.before = left_over.complete ? left_over.name : left_over.before;
  epoch.text = FormingText(epoch.name, epoch.before);
  // First, so that nobody finds the epoch without a member.
  const std::string mark = MakeMark();
  const std::string key = MemberKey(epoch.name, options_.id);
  if (absl::Status status = store_.CompareSet(key, "", mark, deadline).status();
      !status.ok()) {
    return status;
  }
  const absl::StatusOr<std::string> present =
      store_.CompareSet(kEpochKey, left_over.text, epoch.text, deadline);
  if (!present.ok()) return present.status();
  // Our mark may stay: if the reply to an earlier attempt was lost, the others
  // may have entered our epoch meanwhile.
  if (*present != epoch.text) {
    return TryAgain("another worker begins the group");
  }
  if (!left_over.name.empty()) {
    LOG(INFO) << "worker " << options_.name << " begins the group anew: nobody "
              << "lives of those that an earlier run has left in the store";
  }
  epoch_ = epoch.name;
  mark_ = mark;
  our_place_ = mark;
  return epoch;
}

absl::Status StaticGroup::Publish(absl::Time deadline) {
  // The listener may be replaced meanwhile, and the successor's address
  // published before this one.
  while (!is_published_ || published_ != url_()) {
    const std::string address = url_();
    std::string present = published_;
    const absl::StatusOr<bool> replaced = ReplaceValue(
        store_, AddressKey(options_.name), present, address, deadline);
    if (!replaced.ok()) return replaced.status();
    if (*replaced) {
      published_ = address;
      is_published_ = true;
      on_published_(address);
      continue;
    }
    const absl::StatusOr<std::string> place = ReadOurPlace(deadline);
    if (!place.ok()) return place.status();
    if (*place != mark_) return TryAgain(kTaken);
    published_ = present;
  }
  return absl::OkStatus();
}

absl::Status StaticGroup::KeepAddress(absl::Time deadline) {
  const absl::Status present =
      store_.TryGet(AddressKey(options_.name), deadline).status();
  if (!absl::IsNotFound(present)) return present;
  absl::Status status =
      store_.Set(FeaturesKey(options_.name), features_, deadline);
  if (!status.ok()) return status;
  is_published_ = false;
  published_.clear();
  return Publish(deadline);
}

absl::StatusOr<std::string> StaticGroup::ReadOurPlace(absl::Time deadline) {
  absl::StatusOr<std::string> place =
      store_.TryGet(MemberKey(epoch_, options_.id), deadline);
  if (absl::IsNotFound(place.status())) return std::string();
  return place;
}

absl::Status StaticGroup::WaitForAll(const Epoch& epoch, absl::Time deadline) {
  const size_t size = workers_.size();
  is_there_.assign(size, false);
  is_stock_.assign(size, false);
  addresses_.assign(size, "");
  instances_.assign(size, "");
  is_there_[options_.id] = true;
  addresses_[options_.id] = published_;
  instances_[options_.id] = instance_;
  waits_ = true;
  absl::Duration wait = kFirstWait;
  while (true) {
    const absl::Time until = std::min(runtime_.Now() + wait, deadline);
    wait = std::min(2 * wait, kLongestWait);
    absl::Status waited;
    bool has_one_given_up = false;
    for (size_t id = 0; id < size && waited.ok(); ++id) {
      if (is_there_[id]) continue;
      const absl::StatusOr<std::string> mark =
          store_.Get(MemberKey(epoch.name, static_cast<int64_t>(id)), until);
      waited = mark.status();
      if (!mark.ok()) continue;
      if (mark->empty()) {
        has_one_given_up = true;
        continue;
      }
      is_there_[id] = true;
      std::tie(instances_[id], addresses_[id]) = SplitMark(*mark);
    }
    if (waited.ok() && !has_one_given_up) break;
    if (!waited.ok() && !absl::IsDeadlineExceeded(waited)) return waited;
    // The store wakes nobody whose key exists.
    if (waited.ok()) store_.Pause(until);
    if (until >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat(std::count(is_there_.begin(), is_there_.end(), true),
                       " of ", size, " workers came; missing: ", Missing()));
    }
    if (absl::Status status =
            LookForMissing(epoch, /*is_long=*/wait == kLongestWait, deadline);
        !status.ok()) {
      // A look that ran out of time tells nothing new.
      if (!absl::IsDeadlineExceeded(status)) return status;
    }
  }
  return absl::OkStatus();
}

absl::Status StaticGroup::LookForMissing(const Epoch& epoch, bool is_long,
                                         absl::Time deadline) {
  const absl::StatusOr<Epoch> now = ReadEnteredEpoch(deadline);
  if (!now.ok()) return now.status();
  if (now->name != epoch.name) return TryAgain("the group was begun anew");
  if (is_long) {
    const absl::StatusOr<std::string> place = ReadOurPlace(deadline);
    if (!place.ok()) return place.status();
    if (place->empty()) return OnLost();
    if (*place != mark_) return TryAgain(kTaken);
    absl::Status status = keep_(deadline);
    if (status.ok()) status = KeepAddress(deadline);
    if (!status.ok()) return status;
  }
  const absl::Time begin = runtime_.Now();
  int checks = 0;
  for (size_t i = 0; i < is_there_.size(); ++i) {
    const auto id = static_cast<int64_t>(i);
    if (is_there_[i]) continue;
    if (absl::Status status = LookForStock(id, deadline); !status.ok()) {
      return status;
    }
    if (is_there_[i] || now->complete || now->before.empty() ||
        checks >= kMostChecksAtATime ||
        runtime_.Now() - begin >= kLongestLook) {
      continue;
    }
    ++checks;
    const absl::StatusOr<std::string> mark =
        store_.TryGet(MemberKey(now->before, id), deadline);
    if (absl::IsNotFound(mark.status())) continue;
    if (!mark.ok()) return mark.status();
    if (mark->empty()) continue;
    if (CheckAt(SplitMark(*mark).second, *mark, deadline).state ==
        Liveness::State::kAnswered) {
      suspects_.erase(*mark);
      return ReturnTo(*now, deadline);
    }
  }
  return absl::OkStatus();
}

absl::Status StaticGroup::LookForStock(int64_t id, absl::Time deadline) {
  const std::string& name = workers_.Find(static_cast<WorkerId>(id))->name;
  absl::StatusOr<std::string> address =
      store_.TryGet(AddressKey(name), deadline);
  if (absl::IsNotFound(address.status())) {
    left_over_[id] = absl::StrCat("the address of ", name);
    return absl::OkStatus();
  }
  if (!address.ok()) return address.status();
  const absl::StatusOr<std::string> features =
      store_.TryGet(FeaturesKey(name), deadline);
  if (!features.ok() && !absl::IsNotFound(features.status())) {
    return features.status();
  }
  if (ParseFeatures(features.value_or("")).epoch) {
    left_over_[id] = absl::StrCat(
        name,
        " (of which the store has an address: it is still starting, or an "
        "earlier start has left it)");
    return absl::OkStatus();
  }
  is_there_[id] = true;
  is_stock_[id] = true;
  addresses_[id] = *std::move(address);
  // It may have waited for us since before we came, and some servers do not
  // wake it for what was written by compare-and-set.
  return store_.Set(AddressKey(options_.name), published_, deadline);
}

absl::Status StaticGroup::ReturnTo(const Epoch& epoch, absl::Time deadline) {
  LOG(WARNING) << "worker " << options_.name << " finds that a group that it "
               << "took for dead lives, and enters it";
  const absl::Status status =
      store_
          .CompareSet(kEpochKey, epoch.text,
                      CompleteText(epoch.before, epoch.name), deadline)
          .status();
  if (!status.ok()) return status;
  return TryAgain("the group was begun before, and lives");
}

absl::Status StaticGroup::Complete(const Epoch& epoch, absl::Time deadline) {
  std::string desired = CompleteText(epoch.name, "");
  absl::StatusOr<std::string> present = store_.CompareSet(
      kEpochKey, FormingText(epoch.name, epoch.before), desired, deadline);
  while (true) {
    if (!present.ok()) return present.status();
    const absl::StatusOr<Epoch> now = ParseEpoch(*present);
    if (!now.ok()) return now.status();
    if (now->name != epoch.name || !now->complete) {
      return TryAgain("the group was begun anew");
    }
    if (!is_late_) break;
    // Who found the epoch dead before we came must look again.
    desired = CompleteText(epoch.name, absl::StrCat(instance_, ".", ++starts_));
    present = store_.CompareSet(kEpochKey, now->text, desired, deadline);
    if (present.ok() && *present == desired) break;
  }
  const absl::StatusOr<std::string> place = ReadOurPlace(deadline);
  if (!place.ok()) return place.status();
  return *place == mark_ ? absl::OkStatus() : TryAgain(kTaken);
}

void StaticGroup::Withdraw(absl::Time deadline) {
  if (epoch_.empty()) return;
  const absl::StatusOr<Epoch> now = ReadEpoch(deadline);
  // The others may have completed it without our seeing that.
  if (now.ok() && now->name == epoch_ && now->complete) return;
  // A deletion might come late, and be that of a successor's mark.
  store_.CompareSet(MemberKey(epoch_, options_.id), mark_, "", deadline)
      .IgnoreError();
}

std::string StaticGroup::Missing() const {
  std::vector<std::string> missing;
  for (size_t id = 0; id < is_there_.size(); ++id) {
    if (is_there_[id]) continue;
    const auto known = left_over_.find(static_cast<int64_t>(id));
    missing.push_back(known != left_over_.end()
                          ? known->second
                          : workers_.Find(static_cast<WorkerId>(id))->name);
  }
  return absl::StrJoin(missing, ", ");
}

}  // namespace reprise
