#include "agent/client/retry.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/call_error.h"
#include "agent/planted.h"
#include "agent/probe.h"
#include "glog/logging.h"

namespace reprise {

absl::Duration RetryPause(const RetryOptions& options, int retry,
                          uint64_t random) {
  // Without this limit the power may be infinite.
  constexpr double kMaxFactor = 1e15;
  const absl::Duration pause = std::min(
      options.retry_duration *
          std::min(std::pow(options.backoff, retry), kMaxFactor),
      REPRISE_PLANTED(pauses_without_cap) ? absl::Hours(1) : options.max_pause);
  if (options.jitter == 0) return pause;
  constexpr double kRange = 1 << 20;
  const double part = static_cast<double>(random % (1 << 20)) / kRange;
  return pause * (1 - options.jitter * part);
}

namespace {

bool ShouldRetry(const RetryOptions& options, const absl::Status& status) {
  if (!options.retry_if) return RetryMayHelp(status);
  try {
    return options.retry_if(status);
  } catch (...) {
    LOG(ERROR) << "RetryOptions::retry_if threw: the call is not retried";
    return false;
  }
}

absl::Status LastFailure(const std::string& text, const absl::Status& status) {
  return CopyCallError(
      status,
      absl::Status(status.code(), absl::StrCat(text, status.message())));
}

absl::Status TooManyRetries(int max_retries, const absl::Status& status) {
  return LastFailure(
      absl::StrCat("The RPC has not succeeded after the specified number of "
                   "max retries (",
                   max_retries, "). The last failure: "),
      status);
}

absl::Status TooLate(int num_attempts, const absl::Status& status) {
  return LastFailure(
      absl::StrCat("The RPC has not succeeded before its deadline, in ",
                   num_attempts, " attempts. The last failure: "),
      status);
}

}  // namespace

struct Retrier::Call {
  Call(uint64_t number, const RetryOptions& options, absl::Time deadline,
       Attempt attempt, Promise promise, Activity::Token active,
       std::string label)
      : number(number),
        options(options),
        deadline(deadline),
        attempt(std::move(attempt)),
        promise(std::move(promise)),
        active(std::move(active)),
        label(std::move(label)) {}

  const uint64_t number;
  const RetryOptions options;
  const absl::Time deadline;
  const Attempt attempt;
  // Used by the thread that takes the call out of the table.
  Promise promise;
  Activity::Token active;
  const std::string label;
  // Under the retrier's lock.
  int retries = 0;
  std::optional<Future> current;
  std::optional<Timer::Key> pause;
};

Future Retrier::Start(const RetryOptions& options, absl::Time deadline,
                      Attempt attempt, Activity::Token active,
                      std::string label) {
  std::shared_ptr<Call> call;
  absl::Status closed;
  {
    MutexLock lock(mutex_);
    const uint64_t number = next_number_++;
    call = std::make_shared<Call>(
        number, options, deadline, std::move(attempt),
        // Weak: a future may outlive the agent.
        Promise(runtime_, executor_,
                [retrier = weak_from_this(), number] {
                  if (const auto alive = retrier.lock()) {
                    alive->Cancel(number);
                  }
                }),
        std::move(active), std::move(label));
    closed = closed_;
    if (closed.ok()) calls_.emplace(number, call);
  }
  Future future = call->promise.future();
  if (closed.ok()) {
    Try(call);
  } else {
    Finish(*call, closed);
  }
  return future;
}

void Retrier::Try(const std::shared_ptr<Call>& call) {
  bool is_retry = false;
  {
    MutexLock lock(mutex_);
    // The call was cancelled, or failed by the shutdown.
    if (calls_.find(call->number) == calls_.end()) return;
    call->pause.reset();
    is_retry = call->retries > 0;
    ++num_trying_;
  }
  if (is_retry) ++num_retries_;
  Future attempt = call->attempt(is_retry);
  bool is_cancelled = false;
  {
    MutexLock lock(mutex_);
    is_cancelled = calls_.find(call->number) == calls_.end();
    if (!is_cancelled) call->current = attempt;
    if (--num_trying_ == 0) idle_.NotifyAll();
  }
  if (is_cancelled) {
    REPRISE_PROBE("call cancelled while it is sent again");
    attempt.Cancel();
    return;
  }
  attempt.Then([self = shared_from_this(), call](const Future::Result& result) {
    self->OnAttemptDone(call, result);
  });
}

void Retrier::OnAttemptDone(const std::shared_ptr<Call>& call,
                            const Future::Result& result) {
  const absl::Time now = runtime_.Now();
  const bool is_retriable =
      !result.ok() && ShouldRetry(call->options, result.status());
  const uint64_t random = is_retriable ? runtime_.RandomBits() : 0;
  std::optional<Future> current;
  absl::Status failure;
  {
    MutexLock lock(mutex_);
    const auto found = calls_.find(call->number);
    if (found == calls_.end()) return;
    current.swap(call->current);
    if (is_retriable && !closed_.ok()) {
      REPRISE_PROBE("attempt fails after the shutdown");
      failure = closed_;
    } else if (is_retriable && call->retries >= call->options.max_retries) {
      failure = TooManyRetries(call->options.max_retries, result.status());
    } else if (is_retriable) {
      const absl::Time next =
          now + RetryPause(call->options, call->retries, random);
      if (next < call->deadline) {
        ++call->retries;
        call->pause = timer_.Schedule(next, [this, call] { Try(call); });
        return;
      }
      failure = TooLate(call->retries + 1, result.status());
    }
    calls_.erase(found);
  }
  Finish(*call, failure.ok() ? result : failure);
}

void Retrier::Cancel(uint64_t number) {
  std::shared_ptr<Call> call;
  {
    MutexLock lock(mutex_);
    const auto found = calls_.find(number);
    if (found == calls_.end()) return;
    call = std::move(found->second);
    calls_.erase(found);
  }
  // The call is out of the table, so no other thread uses it now.
  if (call->pause.has_value()) timer_.Cancel(*call->pause);
  if (call->current.has_value()) call->current->Cancel();
  Finish(*call, WithCallError(absl::CancelledError("the call was cancelled"),
                              CallErrorSource::kCaller));
}

void Retrier::Finish(Call& call, Future::Result result) {
  if (!result.ok()) result = WithLabel(result.status(), call.label);
  call.promise.Complete(
      std::move(result),
      [active = std::move(call.active)]() mutable { active.Release(); });
}

void Retrier::Close(const absl::Status& status) {
  if (REPRISE_PLANTED(retry_after_shutdown)) return;
  std::vector<std::shared_ptr<Call>> waiting;
  {
    MutexLock lock(mutex_);
    closed_ = status;
    while (num_trying_ > 0) {
      idle_.WaitUntil(mutex_, absl::InfiniteFuture());
    }
    for (auto it = calls_.begin(); it != calls_.end();) {
      const auto next = std::next(it);
      if (it->second->pause.has_value()) {
        waiting.push_back(std::move(it->second));
        calls_.erase(it);
      }
      it = next;
    }
  }
  for (const std::shared_ptr<Call>& call : waiting) {
    timer_.Cancel(*call->pause);
    Finish(*call, status);
  }
}

}  // namespace reprise
