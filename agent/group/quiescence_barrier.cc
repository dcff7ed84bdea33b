#include "agent/group/quiescence_barrier.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/planted.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// Its value is "<join> <its last barrier>": all members have left this join and
// all joins before it. It stands for the keys of their barriers, which are
// deleted then, so that a worker that was restarted, and joins from the
// beginning again, finds the present join.
constexpr std::string_view kJoinedKey = "shutdown/JOINED";

// The longest that tidying up may hold up a join.
constexpr absl::Duration kLongestTidyUp = absl::Seconds(1);

// The highest barrier that is believed. Counting on from there does not
// overflow.
constexpr int64_t kLastBarrier = int64_t{1} << 62;

}  // namespace

QuiescenceBarrier::QuiescenceBarrier(Runtime& runtime, StoreClient& store,
                                     const WorkerDirectory& workers,
                                     Activity& activity, Observer* observer)
    : runtime_(runtime),
      store_(store),
      workers_(workers),
      activity_(activity),
      barrier_(runtime, store, workers, observer, [this] { return IsOver(); }),
      joined_key_(kJoinedKey),
      mutex_(runtime, "Joiner"),
      changed_(runtime, "Joiner.changed") {}

void QuiescenceBarrier::UseKeys(std::string prefix,
                                std::vector<bool> is_stock) {
  joined_key_ = prefix + std::string(kJoinedKey);
  barrier_.UseKeys(std::move(prefix), std::move(is_stock));
}

absl::Status QuiescenceBarrier::Join(bool stay_together, absl::Time deadline) {
  {
    MutexLock lock(mutex_);
    if (stopped_) {
      return absl::FailedPreconditionError(absl::StrCat(
          "agent ", workers_.self().name, " was shut down: it cannot join"));
    }
    if (running_) {
      return absl::FailedPreconditionError(
          absl::StrCat("agent ", workers_.self().name,
                       " is already joining, on another thread"));
    }
    running_ = true;
  }
  absl::Status status = Run(stay_together, deadline);
  MutexLock lock(mutex_);
  running_ = false;
  changed_.NotifyAll();
  if (stopped_ && !status.ok()) {
    return absl::CancelledError(absl::StrCat("agent ", workers_.self().name,
                                             " was shut down while it joined"));
  }
  return status;
}

absl::Status QuiescenceBarrier::Run(bool stay_together, absl::Time deadline) {
  deadline_ = deadline;
  absl::Status status = WaitUntilQuiet();
  bool is_over = false;
  if (status.ok()) is_over = IsOver();
  while (status.ok() && !is_over && phase_ != Phase::kDone) {
    status = Step(stay_together);
    if (absl::IsAborted(status) && IsOver()) {
      status = absl::OkStatus();
      is_over = true;
    }
  }
  if (!status.ok()) return status;
  if (is_over) next_barrier_ = std::max(next_barrier_, after_joined_);
  ++join_;
  phase_ = Phase::kGather;
  looked_ = false;
  first_barrier_ = next_barrier_;
  return status;
}

absl::Status QuiescenceBarrier::Step(bool stay_together) {
  switch (phase_) {
    case Phase::kGather: {
      // This is the first look. When the barrier is tried again, it stays the
      // look that was taken before we first came to the barrier.
      if (!looked_) {
        if (absl::Status status = WaitUntilQuiet(); !status.ok()) return status;
        looked_ = true;
      }
      const bool is_first = next_barrier_ == first_barrier_;
      const absl::StatusOr<int64_t> total = ExchangeCounts(0);
      if (!total.ok()) return total.status();
      looked_ = false;
      phase_ = Phase::kCount;
      if (is_first) ForgetPreviousJoins();
      return absl::OkStatus();
    }
    case Phase::kCount: {
      const Activity::Counts now = activity_.counts();
      const absl::StatusOr<int64_t> total = ExchangeCounts(
          now.running[Activity::kCall] + now.running[Activity::kHandler] +
          (now.started != started_before_ ? 1 : 0));
      if (!total.ok()) return total.status();
      if (*total != 0) {
        phase_ = Phase::kGather;
      } else {
        phase_ = stay_together ? Phase::kRelease : Phase::kDone;
      }
      return absl::OkStatus();
    }
    case Phase::kRelease: {
      const absl::StatusOr<int64_t> total = ExchangeCounts(0);
      if (total.ok()) phase_ = Phase::kDone;
      return total.status();
    }
    case Phase::kDone:
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status QuiescenceBarrier::WaitUntilQuiet() {
  if (const std::optional<Activity::Counts> quiet =
          activity_.WaitUntilQuiet(deadline_)) {
    if (!looked_) started_before_ = quiet->started;
    return absl::OkStatus();
  }
  const Activity::Counts now = activity_.counts();
  return absl::DeadlineExceededError(
      absl::StrCat("join: worker ", workers_.self().name, " itself has ",
                   now.running[Activity::kCall], " calls and ",
                   now.running[Activity::kHandler], " handlers running"));
}

absl::StatusOr<int64_t> QuiescenceBarrier::ExchangeCounts(int64_t count) {
  absl::StatusOr<int64_t> total =
      barrier_.ExchangeCounts(next_barrier_, count, deadline_);
  if (total.ok() || REPRISE_PLANTED(barrier_out_of_step)) ++next_barrier_;
  return total;
}

bool QuiescenceBarrier::IsOver() {
  const absl::StatusOr<std::string> joined =
      store_.TryGet(joined_key_, deadline_);
  if (!joined.ok()) return false;
  const std::vector<std::string> parts = absl::StrSplit(*joined, ' ');
  int64_t join = 0;
  int64_t barrier = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &join) ||
      !absl::SimpleAtoi(parts[1], &barrier) || barrier < 0 ||
      barrier > kLastBarrier) {
    return false;
  }
  if (join < join_) return false;
  after_joined_ = barrier + 1;
  return true;
}

void QuiescenceBarrier::ForgetPreviousJoins() {
  // All have come to this join, so all have left the previous ones. That also
  // holds for members that know nothing of this key.
  if (join_ == 1) return;
  const absl::Time until = std::min(deadline_, runtime_.Now() + kLongestTidyUp);
  if (workers_.self().id == 0) {
    const absl::Status status = store_.Set(
        joined_key_, absl::StrCat(join_ - 1, " ", first_barrier_ - 1), until);
    if (!status.ok()) return;  // the next join tries again
  }
  for (; first_to_forget_ < first_barrier_ && runtime_.Now() < until;
       ++first_to_forget_) {
    barrier_.Forget(first_to_forget_, until);
  }
}

void QuiescenceBarrier::Stop() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
  }
  store_.Stop();
  activity_.Interrupt();
  MutexLock lock(mutex_);
  while (running_) changed_.WaitUntil(mutex_, absl::InfiniteFuture());
}

}  // namespace reprise
