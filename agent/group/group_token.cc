#include "agent/group/group_token.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/group/worker_directory.h"
#include "agent/planted.h"
#include "agent/probe.h"
#include "glog/logging.h"

namespace reprise {
namespace {

constexpr std::string_view kTokenKey = "RpcGroupManagementToken";
constexpr std::string_view kLeaseKey = "reprise/token_lease";
constexpr std::string_view kDone = "Done";

constexpr absl::Duration kFirstPause = absl::Milliseconds(5);
constexpr absl::Duration kLongestPause = absl::Milliseconds(200);
constexpr absl::Duration kLongestRelease = absl::Seconds(1);
// Also after `release_by`.
constexpr absl::Duration kShortestRelease = absl::Milliseconds(50);

// How much of a token is shown: tokens are named as PyTorch names them, with a
// worker's name in them.
constexpr size_t kMaxToken = 2 * kMaxWorkerName;

}  // namespace

GroupToken::GroupToken(Runtime& runtime, StoreClient& store,
                       const std::string& name, std::string_view purpose,
                       std::string stamp, absl::Duration lease,
                       absl::Time release_by)
    : runtime_(runtime),
      store_(store),
      token_(absl::StrCat("Token_for_", name, "_",
                          absl::string_view(purpose.data(), purpose.size()))),
      stamp_(std::move(stamp)),
      lease_(lease),
      release_by_(release_by) {}

GroupToken::~GroupToken() {
  if (REPRISE_PLANTED(token_not_released)) return;
  if (!held_ && !may_be_held_) return;
  const absl::Time now = runtime_.Now();
  Release(std::min(now + kLongestRelease,
                   std::max(release_by_, now + kShortestRelease)));
}

absl::Status GroupToken::Acquire(absl::Time deadline) {
  if (held_) return absl::OkStatus();
  absl::Duration pause = kFirstPause;
  TokenState before;
  absl::Time since = runtime_.Now();
  while (true) {
    TokenState seen;
    absl::Status status = TryAcquire(deadline, seen);
    if (status.ok() && held_) return status;
    const absl::Time now = runtime_.Now();
    if (status.ok() && seen != before) {
      before = seen;
      since = now;
      pause = kFirstPause;
    }
    if (status.ok() && now - since >= lease_) {
      status = BreakLease(seen, deadline);
      if (status.ok() && held_) return status;
      since = now;
    }
    if (!status.ok() && !absl::IsDeadlineExceeded(status)) return status;
    if (now >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat(
          "the group is busy: it is held by ",
          before.token.empty()
              ? "nobody that is known"
              : absl::CHexEscape(before.token.substr(0, kMaxToken)),
          status.ok() ? "" : absl::StrCat(" (", status.message(), ")")));
    }
    store_.Pause(std::min(now + pause, deadline));
    pause = std::min(2 * pause, kLongestPause);
  }
}

absl::Status GroupToken::TryAcquire(absl::Time deadline, TokenState& seen) {
  may_be_held_ = true;
  absl::StatusOr<std::string> token =
      store_.CompareSet(kTokenKey, "", token_, deadline);
  if (!token.ok()) return token.status();
  if (*token != token_) {
    may_be_held_ = false;
    seen.token = *std::move(token);
    const absl::StatusOr<std::string> lease =
        store_.TryGet(kLeaseKey, deadline);
    if (!lease.ok() && !absl::IsNotFound(lease.status())) {
      return lease.status();
    }
    seen.lease = lease.value_or("");
    return absl::OkStatus();
  }
  // The token has our name. But another worker of our name, dead or alive, may
  // hold it.
  absl::StatusOr<std::string> lease =
      store_.CompareSet(kLeaseKey, "", stamp_, deadline);
  if (!lease.ok()) return lease.status();
  if (*lease == stamp_) {
    Held();
    // Stock workers wait for this key, so it must not be there from the last
    // time.
    return store_.Delete(token_, deadline).status();
  }
  may_be_held_ = false;
  seen = {token_, *std::move(lease)};
  return absl::OkStatus();
}

absl::Status GroupToken::BreakLease(const TokenState& dead,
                                    absl::Time deadline) {
  REPRISE_PROBE("lease of the token is broken");
  LOG(WARNING) << "whoever held the group by "
               << absl::CHexEscape(dead.token.substr(0, kMaxToken))
               << " did nothing for " << lease_ << ": its lease is broken";
  may_be_held_ = true;
  const absl::StatusOr<std::string> lease =
      store_.CompareSet(kLeaseKey, dead.lease, stamp_, deadline);
  if (!lease.ok()) return lease.status();
  if (*lease != stamp_) {
    REPRISE_PROBE("lease of the token is broken by another");
    may_be_held_ = false;
    return absl::OkStatus();  // another worker was quicker
  }
  const absl::StatusOr<std::string> token =
      store_.CompareSet(kTokenKey, dead.token, token_, deadline);
  if (!token.ok()) return token.status();
  if (*token != token_) {
    // The holder woke up and released the token.
    REPRISE_PROBE("holder of a broken lease wakes up");
    const absl::Status status =
        store_.CompareSet(kLeaseKey, stamp_, "", deadline).status();
    // Otherwise the destructor takes our stamp away.
    may_be_held_ = !status.ok();
    return status;
  }
  Held();
  if (dead.token != token_) {
    if (absl::Status status = store_.Set(dead.token, kDone, deadline);
        !status.ok()) {
      return status;
    }
  }
  return store_.Delete(token_, deadline).status();
}

void GroupToken::Held() {
  held_ = true;
  held_until_ = runtime_.Now() + lease_ / 2;
}

void GroupToken::Release(absl::Time deadline) {
  if (!held_ && !may_be_held_) return;
  held_ = false;
  may_be_held_ = false;
  // If the lease is not ours any more, nothing is changed.
  const absl::StatusOr<std::string> lease =
      store_.CompareSet(kLeaseKey, stamp_, "", deadline);
  if (!lease.ok() || !lease->empty()) return;
  const absl::StatusOr<std::string> token =
      store_.CompareSet(kTokenKey, token_, "", deadline);
  // Any value but ours shows that we have let it go: the answer to an earlier
  // attempt may have been lost, and another worker may have it by now.
  if (!token.ok() || *token == token_) return;
  store_.Set(token_, kDone, deadline).IgnoreError();
}

absl::StatusOr<std::string> GroupToken::LeasedBy(StoreClient& store,
                                                 absl::Time deadline) {
  std::string held;
  for (const std::string_view key : {kTokenKey, kLeaseKey}) {
    const absl::StatusOr<std::string> value = store.TryGet(key, deadline);
    if (!value.ok() && !absl::IsNotFound(value.status())) {
      return value.status();
    }
    if (value.value_or("").empty()) return std::string();
    absl::StrAppend(&held, *value, " ");
  }
  return held;
}

}  // namespace reprise
