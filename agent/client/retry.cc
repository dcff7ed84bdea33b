#include "agent/client/retry.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/planted.h"
#include "agent/wire/message_codec.h"
#include "agent/wire/rpc_error.h"

namespace reprise {

bool IsRetriable(const absl::Status& status) {
  return !IsRemoteError(status) && !IsTooLarge(status) &&
         (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
          absl::IsResourceExhausted(status));
}

absl::Duration RetryPause(const RetryOptions& options, int retry) {
  return options.retry_duration * std::pow(options.backoff, retry);
}

struct Retrier::Call {
  Call(uint64_t number, const RetryOptions& options, Attempt attempt,
       Promise promise, Activity::Token active)
      : number(number),
        options(options),
        attempt(std::move(attempt)),
        promise(std::move(promise)),
        active(std::move(active)) {}

  const uint64_t number;
  const RetryOptions options;
  const Attempt attempt;
  // Used by who takes the call out of the table.
  Promise promise;
  Activity::Token active;
  // Under the retrier's lock.
  int retries = 0;
  std::optional<Future> current;
  std::optional<Timer::Key> pause;
};

Future Retrier::Start(const RetryOptions& options, Attempt attempt,
                      Activity::Token active) {
  std::shared_ptr<Call> call;
  absl::Status closed;
  {
    MutexLock lock(mutex_);
    const uint64_t number = next_number_++;
    call = std::make_shared<Call>(
        number, options, std::move(attempt),
        // Weak: a future may outlive the agent.
        Promise(runtime_, executor_,
                [retrier = weak_from_this(), number] {
                  if (const auto alive = retrier.lock()) {
                    alive->Cancel(number);
                  }
                }),
        std::move(active));
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
    // Cancelled, or failed by the shutdown.
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
  std::optional<Future> current;
  absl::Status failure;
  {
    MutexLock lock(mutex_);
    const auto found = calls_.find(call->number);
    if (found == calls_.end()) return;
    current.swap(call->current);
    const bool is_retriable = !result.ok() && IsRetriable(result.status());
    if (is_retriable && !closed_.ok()) {
      failure = closed_;
    } else if (is_retriable && call->retries < call->options.max_retries) {
      call->pause =
          timer_.Schedule(now + RetryPause(call->options, call->retries++),
                          [this, call] { Try(call); });
      return;
    } else if (is_retriable) {
      failure = absl::Status(
          result.status().code(),
          absl::StrCat("The RPC has not succeeded after the specified number "
                       "of max retries (",
                       call->options.max_retries,
                       "). The last failure: ", result.status().message()));
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
  // Nobody else has it now, but for an attempt that looks for it in vain.
  if (call->pause.has_value()) timer_.Cancel(*call->pause);
  if (call->current.has_value()) call->current->Cancel();
  Finish(*call, absl::CancelledError("the call was cancelled"));
}

void Retrier::Finish(Call& call, Future::Result result) {
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
