// The part of static_group.h that finds out which members live.

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/group/rendezvous.h"
#include "agent/group/static_group.h"
#include "agent/planted.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// A worker that refuses connections may be opening another listener just now.
constexpr int kRefusals = 3;
// A worker that did not answer in time may be far.
constexpr absl::Duration kFirstCheck = absl::Seconds(2);
constexpr absl::Duration kLaterCheck = absl::Seconds(5);

constexpr size_t kMaxPrinted = 200;

std::string Printable(std::string_view text) {
  return absl::CHexEscape(std::string(text.substr(0, kMaxPrinted)));
}

}  // namespace

absl::Status StaticGroup::CheckOurPlace(const std::string& epoch,
                                        std::string& our_place,
                                        absl::Time deadline) {
  absl::StatusOr<std::string> place =
      store_.TryGet(MemberKey(epoch, options_.id), deadline);
  if (!place.ok() && !absl::IsNotFound(place.status())) return place.status();
  our_place = place.value_or("");
  if (our_place.empty() || SplitMark(our_place).first == instance_) {
    return absl::OkStatus();
  }
  const absl::StatusOr<Verdict> verdict =
      Judge(options_.id, our_place, deadline);
  if (!verdict.ok()) return verdict.status();
  if (*verdict == Verdict::kUnknown)
    return absl::AbortedError(left_over_[options_.id]);
  if (*verdict == Verdict::kDead) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat(
      "RPC worker name ", options_.name, " is not unique. A worker of this ",
      "name and of id ", options_.id, " lives at ",
      Printable(SplitMark(our_place).second), "."));
}

absl::StatusOr<StaticGroup::Verdict> StaticGroup::JudgeMember(
    const std::string& epoch, int64_t id, absl::Time deadline) {
  const absl::StatusOr<std::string> mark =
      store_.TryGet(MemberKey(epoch, id), deadline);
  if (absl::IsNotFound(mark.status())) return Verdict::kDead;
  if (!mark.ok()) return mark.status();
  return Judge(id, *mark, deadline);
}

absl::StatusOr<StaticGroup::Verdict> StaticGroup::Judge(int64_t id,
                                                        const std::string& mark,
                                                        absl::Time deadline) {
  const std::string address = SplitMark(mark).second;
  const std::string name = workers_.Find(static_cast<WorkerId>(id))->name;
  const std::string ours = url_();
  Suspect& suspect = suspects_[mark];
  // Our own listener is at its address now.
  if (address.empty() || address == ours) suspect.refusals = kRefusals;
  if (suspect.refusals >= kRefusals) return Verdict::kDead;

  std::vector<std::string> where = {address};
  // Its listener may have been replaced since.
  const absl::StatusOr<std::string> published =
      store_.TryGet(AddressKey(name), deadline);
  if (!published.ok() && !absl::IsNotFound(published.status())) {
    return published.status();
  }
  if (published.ok() && *published != address && *published != ours) {
    where.push_back(*published);
  }
  std::string doubt;
  bool refused = true;
  for (const std::string& at : where) {
    const Liveness found = CheckAt(at, mark, deadline);
    if (found.state == Liveness::State::kAnswered) return Verdict::kAlive;
    if (found.state == Liveness::State::kDead) continue;
    refused = false;
    doubt = absl::StrCat("whether worker ", name, " at ", Printable(at),
                         " still lives is not known: ", found.cause);
  }
  const absl::Time now = runtime_.Now();
  if (refused) {
    suspect.silent_since = absl::InfiniteFuture();
    if (++suspect.refusals >= kRefusals ||
        REPRISE_PLANTED(one_refusal_is_death)) {
      return Verdict::kDead;
    }
    doubt = absl::StrCat("nobody listens at ", Printable(address),
                         ", where worker ", name, " was");
  } else {
    suspect.refusals = 0;
    suspect.silent_since = std::min(suspect.silent_since, now);
    if (now - suspect.silent_since >= options_.token_lease) {
      LOG(WARNING) << "worker " << name << " is taken for dead after "
                   << options_.token_lease << " of silence: " << doubt;
      suspect.refusals = kRefusals;
      return Verdict::kDead;
    }
  }
  left_over_[id] = std::move(doubt);
  return Verdict::kUnknown;
}

Liveness StaticGroup::CheckAt(const std::string& address,
                              const std::string& mark, absl::Time deadline) {
  bool& was_silent = suspects_[mark].was_silent;
  const absl::Duration longest = was_silent ? kLaterCheck : kFirstCheck;
  Liveness found =
      check_(address, std::min(deadline, runtime_.Now() + longest));
  if (found.state == Liveness::State::kSilent) was_silent = true;
  // Another agent has its port.
  if (found.state == Liveness::State::kAnswered &&
      found.instance != SplitMark(mark).first) {
    found.state = Liveness::State::kDead;
  }
  return found;
}

}  // namespace reprise
