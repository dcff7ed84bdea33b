#include "agent/group/barrier.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/group/deadline_margin.h"
#include "agent/planted.h"
#include "agent/probe.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// How often a waiting member looks at more than the key READY.
constexpr absl::Duration kLook = absl::Seconds(1);
// How many members look at the records at a time, in a large group.
constexpr int64_t kLookersAtATime = 8;

constexpr std::string_view kProcessCount = "PROCESS_COUNT";
constexpr std::string_view kActiveCalls = "ACTIVE_CALLS";
constexpr std::string_view kReady = "READY";
constexpr std::string_view kArrived = "ARRIVED";

}  // namespace

Barrier::Barrier(Runtime& runtime, StoreClient& store,
                 const WorkerDirectory& workers, Observer* observer,
                 std::function<bool()> is_over)
    : runtime_(runtime),
      store_(store),
      workers_(workers),
      observer_(observer),
      is_over_(std::move(is_over)) {}

void Barrier::UseKeys(std::string prefix, std::vector<bool> is_stock) {
  prefix_ = std::move(prefix);
  is_stock_ = std::move(is_stock);
}

std::string Barrier::Key(std::string_view what, int64_t number) const {
  return absl::StrCat(prefix_, "shutdown/", std::string(what), "_ID_", number);
}

std::string Barrier::ArrivedKey(int64_t number, WorkerId rank) const {
  return absl::StrCat(Key(kArrived, number), "/", rank);
}

absl::StatusOr<int64_t> Barrier::ExchangeCounts(int64_t number, int64_t count,
                                                absl::Time deadline) {
  VLOG(1) << "barrier " << number << " entered with " << count;
  if (observer_ != nullptr) observer_->OnBarrierEntered(number);
  absl::StatusOr<int64_t> total =
      ExchangeCountsUnobserved(number, count, deadline);
  VLOG(1) << "barrier " << number << " left: " << total.status();
  if (observer_ != nullptr) observer_->OnBarrierLeft(number, total.status());
  return total;
}

absl::StatusOr<int64_t> Barrier::ExchangeCountsUnobserved(int64_t number,
                                                          int64_t count,
                                                          absl::Time deadline) {
  if (absl::Status status = Arrive(number, count, deadline); !status.ok()) {
    return status;
  }
  if (absl::Status status = WaitUntilReady(number, deadline); !status.ok()) {
    return status;
  }
  const absl::StatusOr<std::string> total =
      store_.TryGet(Key(kActiveCalls, number), deadline);
  if (!total.ok()) {
    // The key is deleted only when all have left the barrier.
    return absl::IsNotFound(total.status())
               ? absl::AbortedError(
                     absl::StrCat("barrier ", number, " is over"))
               : total.status();
  }
  int64_t sum = 0;
  if (!absl::SimpleAtoi(*total, &sum)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the store has no number in ", Key(kActiveCalls, number)));
  }
  return sum;
}

absl::Status Barrier::Arrive(int64_t number, int64_t count,
                             absl::Time deadline) {
  const std::string record = ArrivedKey(number, workers_.self().id);
  const absl::StatusOr<std::string> before = store_.TryGet(record, deadline);
  if (before.ok()) {  // counted already
    REPRISE_PROBE("barrier entered again");
    return absl::OkStatus();
  }
  if (!absl::IsNotFound(before.status())) return before.status();
  // Adding more than once does no harm, as only the difference between 0 and
  // more than 0 counts.
  if (const absl::StatusOr<int64_t> total =
          store_.AddAtLeastOnce(Key(kActiveCalls, number), count, deadline);
      !total.ok()) {
    return total.status();
  }
  if (absl::Status status = store_.Set(record, absl::StrCat(count), deadline);
      !status.ok()) {
    return status;
  }
  const std::string arrivals = Key(kProcessCount, number);
  const absl::StatusOr<int64_t> arrived =
      REPRISE_PLANTED(add_retried)
          ? store_.AddAtLeastOnce(arrivals, 1, deadline)
          : store_.AddAtMostOnce(arrivals, 1, deadline);
  if (!arrived.ok()) {
    VLOG(1) << "barrier " << number << ": " << arrived.status();
    return absl::IsInvalidArgument(arrived.status()) ? arrived.status()
                                                     : absl::OkStatus();
  }
  if (*arrived < static_cast<int64_t>(workers_.size())) return absl::OkStatus();
  return store_.Set(Key(kReady, number), "", deadline);
}

absl::Status Barrier::WaitUntilReady(int64_t number, absl::Time deadline) {
  if (REPRISE_PLANTED(join_ignores_timeout)) deadline = absl::InfiniteFuture();
  const int64_t size = static_cast<int64_t>(workers_.size());
  const int64_t stride = std::max<int64_t>(1, size / kLookersAtATime);
  const LookSchedule looks(runtime_.Now(), deadline, kLook);
  Missing missing;  // at the last look
  for (int64_t look = workers_.self().id;; ++look) {
    const absl::Time until = looks.Next(runtime_.Now());
    absl::Status ready = store_.Get(Key(kReady, number), until).status();
    if (!absl::IsDeadlineExceeded(ready)) return ready;
    if (until >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("barrier ", number, ": ",
                       missing.count == 0
                           ? std::string(ready.message())
                           : absl::StrCat(size - missing.count, " of ", size,
                                          " workers arrived; missing: ",
                                          absl::StrJoin(missing.names, ", "))));
    }
    if (is_over_()) {
      REPRISE_PROBE("barrier is over");
      return absl::AbortedError(absl::StrCat("barrier ", number, " is over"));
    }
    // Near the end all members look, for their report. Before that, a look only
    // has to find out whether all are there, so it ends at the first member
    // that is missing.
    const bool will_report = deadline - until <= 2 * kLook;
    if (!will_report && look % stride != 0) continue;
    absl::StatusOr<Missing> found = FindMissing(number, will_report, deadline);
    if (found.ok()) {
      missing = *std::move(found);
    } else if (!absl::IsDeadlineExceeded(found.status())) {
      return found.status();
    }
  }
}

absl::StatusOr<Barrier::Missing> Barrier::FindMissing(int64_t number, bool all,
                                                      absl::Time deadline) {
  if (seen_number_ != number) {
    seen_number_ = number;
    if (seen_.empty() || !REPRISE_PLANTED(seen_from_last_barrier)) {
      seen_.assign(workers_.size(), false);
    }
  }
  Missing missing;
  int64_t num_recorded = 0;
  bool any_stock = false;
  const std::shared_ptr<const MemberSnapshot> group = workers_.snapshot();
  for (const MemberPtr& member : group->by_id()) {
    const WorkerInfo& worker = *member;
    const auto index = static_cast<size_t>(worker.id);
    if (!seen_[index]) {
      const absl::Status status =
          store_.TryGet(ArrivedKey(number, worker.id), deadline).status();
      if (!status.ok() && !absl::IsNotFound(status)) return status;
      seen_[index] = status.ok();
    }
    if (seen_[index]) {
      ++num_recorded;
    } else if (index < is_stock_.size() && is_stock_[index]) {
      any_stock = true;
    } else {
      ++missing.count;
      missing.names.push_back(worker.name);
    }
    if ((any_stock || missing.count > 0) && !all) return missing;
  }
  if (any_stock) {
    if (absl::Status status =
            AddMissingStock(number, num_recorded, missing, deadline);
        !status.ok()) {
      return status;
    }
  } else if (missing.count == 0) {
    REPRISE_PROBE("all are found in the barrier");
    if (absl::Status status = store_.Set(Key(kReady, number), "", deadline);
        !status.ok()) {
      return status;
    }
  }
  return missing;
}

absl::Status Barrier::AddMissingStock(int64_t number, int64_t num_recorded,
                                      Missing& missing, absl::Time deadline) {
  const absl::StatusOr<std::string> text =
      store_.TryGet(Key(kProcessCount, number), deadline);
  if (!text.ok() && !absl::IsNotFound(text.status())) return text.status();
  int64_t arrived = 0;
  if (text.ok() && !absl::SimpleAtoi(*text, &arrived)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the store has no number in ", Key(kProcessCount, number)));
  }
  std::vector<std::string> names;
  const std::shared_ptr<const MemberSnapshot> group = workers_.snapshot();
  for (const MemberPtr& member : group->by_id()) {
    const auto index = static_cast<size_t>(member->id);
    if (index < is_stock_.size() && is_stock_[index] && !seen_[index]) {
      names.push_back(member->name);
    }
  }
  const auto num_stock = static_cast<int64_t>(names.size());
  const int64_t there =
      std::clamp<int64_t>(arrived - num_recorded, 0, num_stock);
  if (there == num_stock) return absl::OkStatus();
  missing.count += num_stock - there;
  if (there == 0) {
    missing.names.insert(missing.names.end(), names.begin(), names.end());
  } else {
    missing.names.push_back(
        absl::StrCat(num_stock - there, " of ", absl::StrJoin(names, " and ")));
  }
  return absl::OkStatus();
}

void Barrier::Forget(int64_t number, absl::Time deadline) {
  std::vector<std::string> keys = {ArrivedKey(number, workers_.self().id)};
  if (workers_.self().id == 0) {
    keys.push_back(Key(kProcessCount, number));
    keys.push_back(Key(kActiveCalls, number));
    keys.push_back(Key(kReady, number));
  }
  for (const std::string& key : keys) {
    const absl::Status status = store_.Delete(key, deadline).status();
    // A key that stays does no harm.
    if (!status.ok()) VLOG(1) << "cannot delete " << key << ": " << status;
  }
}

}  // namespace reprise
