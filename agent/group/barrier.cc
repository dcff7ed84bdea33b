#include "agent/group/barrier.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/group/deadline_margin.h"
#include "agent/planted.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// How often one who waits looks at more than READY.
constexpr absl::Duration kLook = absl::Seconds(1);
// How many members look at the records at a time, in a large group.
constexpr int64_t kLookersAtATime = 8;

std::string ProcessCountKey(int64_t number) {
  return absl::StrCat("shutdown/PROCESS_COUNT_ID_", number);
}
std::string ActiveCallsKey(int64_t number) {
  return absl::StrCat("shutdown/ACTIVE_CALLS_ID_", number);
}
std::string ReadyKey(int64_t number) {
  return absl::StrCat("shutdown/READY_ID_", number);
}
std::string ArrivedKey(int64_t number, WorkerId rank) {
  return absl::StrCat("shutdown/ARRIVED_ID_", number, "/", rank);
}

}  // namespace

Barrier::Barrier(Runtime& runtime, StoreClient& store,
                 const WorkerDirectory& workers, Observer* observer,
                 std::function<bool()> is_over)
    : runtime_(runtime),
      store_(store),
      workers_(workers),
      observer_(observer),
      is_over_(std::move(is_over)) {}

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
      store_.TryGet(ActiveCallsKey(number), deadline);
  if (!total.ok()) {
    // It goes only when all have left.
    return absl::IsNotFound(total.status())
               ? absl::AbortedError(
                     absl::StrCat("barrier ", number, " is over"))
               : total.status();
  }
  int64_t sum = 0;
  if (!absl::SimpleAtoi(*total, &sum)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the store has no number in ", ActiveCallsKey(number)));
  }
  return sum;
}

absl::Status Barrier::Arrive(int64_t number, int64_t count,
                             absl::Time deadline) {
  const std::string record = ArrivedKey(number, workers_.self().id);
  const absl::StatusOr<std::string> before = store_.TryGet(record, deadline);
  if (before.ok()) return absl::OkStatus();  // counted already
  if (!absl::IsNotFound(before.status())) return before.status();
  // To add more than once does no harm: all that counts is whether it is 0.
  if (const absl::StatusOr<int64_t> total =
          store_.AddAtLeastOnce(ActiveCallsKey(number), count, deadline);
      !total.ok()) {
    return total.status();
  }
  if (absl::Status status = store_.Set(record, absl::StrCat(count), deadline);
      !status.ok()) {
    return status;
  }
  const absl::StatusOr<int64_t> arrived =
      store_.AddAtMostOnce(ProcessCountKey(number), 1, deadline);
  if (!arrived.ok()) {
    VLOG(1) << "barrier " << number << ": " << arrived.status();
    return absl::IsInvalidArgument(arrived.status()) ? arrived.status()
                                                     : absl::OkStatus();
  }
  if (*arrived < static_cast<int64_t>(workers_.size())) return absl::OkStatus();
  return store_.Set(ReadyKey(number), "", deadline);
}

absl::Status Barrier::WaitUntilReady(int64_t number, absl::Time deadline) {
  if (REPRISE_PLANTED(join_ignores_timeout)) deadline = absl::InfiniteFuture();
  const int64_t size = static_cast<int64_t>(workers_.size());
  const int64_t stride = std::max<int64_t>(1, size / kLookersAtATime);
  const LookSchedule looks(runtime_.Now(), deadline, kLook);
  std::vector<std::string> missing;  // at the last look
  for (int64_t look = workers_.self().id;; ++look) {
    const absl::Time until = looks.Next(runtime_.Now());
    absl::Status ready = store_.Get(ReadyKey(number), until).status();
    if (!absl::IsDeadlineExceeded(ready)) return ready;
    if (until >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat(
          "barrier ", number, ": ",
          missing.empty() ? std::string(ready.message())
                          : absl::StrCat(size - missing.size(), " of ", size,
                                         " workers arrived; missing: ",
                                         absl::StrJoin(missing, ", "))));
    }
    if (is_over_()) {
      return absl::AbortedError(absl::StrCat("barrier ", number, " is over"));
    }
    // Near the end all look, for their report; before, it is to find out that
    // all are there, and the first one who is not is enough.
    const bool will_report = deadline - until <= 2 * kLook;
    if (!will_report && look % stride != 0) continue;
    absl::StatusOr<std::vector<std::string>> found =
        FindMissing(number, will_report ? size : 1, deadline);
    if (found.ok()) {
      missing = *std::move(found);
    } else if (!absl::IsDeadlineExceeded(found.status())) {
      return found.status();
    }
  }
}

absl::StatusOr<std::vector<std::string>> Barrier::FindMissing(
    int64_t number, size_t limit, absl::Time deadline) {
  if (seen_number_ != number) {
    seen_number_ = number;
    seen_.assign(workers_.size(), false);
  }
  std::vector<std::string> missing;
  const std::shared_ptr<const MemberSnapshot> group = workers_.snapshot();
  for (const MemberPtr& member : group->by_id()) {
    const WorkerInfo& worker = *member;
    if (seen_[worker.id]) continue;
    const absl::Status status =
        store_.TryGet(ArrivedKey(number, worker.id), deadline).status();
    if (status.ok()) {
      seen_[worker.id] = true;
    } else if (absl::IsNotFound(status)) {
      missing.push_back(worker.name);
      if (missing.size() >= limit) return missing;
    } else {
      return status;
    }
  }
  if (missing.empty()) {
    if (absl::Status status = store_.Set(ReadyKey(number), "", deadline);
        !status.ok()) {
      return status;
    }
  }
  return missing;
}

void Barrier::Forget(int64_t number, absl::Time deadline) {
  std::vector<std::string> keys = {ArrivedKey(number, workers_.self().id)};
  if (workers_.self().id == 0) {
    keys.push_back(ProcessCountKey(number));
    keys.push_back(ActiveCallsKey(number));
    keys.push_back(ReadyKey(number));
  }
  for (const std::string& key : keys) {
    const absl::Status status = store_.Delete(key, deadline).status();
    // Litter, and no more than that.
    if (!status.ok()) VLOG(1) << "cannot delete " << key << ": " << status;
  }
}

}  // namespace reprise
