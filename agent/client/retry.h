// Calls that are sent again until they succeed.
//
// The request is encoded once, and every attempt sends the same bytes. An
// attempt is a call of its own; the whole is counted as one active call, and
// its future is completed once: by the last attempt, its cancellation, or the
// shutdown. The timer makes the pauses; nothing here has a thread.

#ifndef REPRISE_AGENT_CLIENT_RETRY_H_
#define REPRISE_AGENT_CLIENT_RETRY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/activity.h"
#include "agent/future.h"
#include "agent/options.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/timer.h"

namespace reprise {

// Before retry number `retry`, from 0. `random`: any 64 bits, for the jitter.
absl::Duration RetryPause(const RetryOptions& options, int retry,
                          uint64_t random);

// Thread-safe. `Close` must be called before it is destroyed, and before the
// timer is stopped; futures may outlive it.
class Retrier : public std::enable_shared_from_this<Retrier> {
 public:
  // Makes one attempt. Its future's callbacks must run at once, where it is
  // completed. Not called after `Close` has returned.
  using Attempt = std::function<Future(bool is_retry)>;

  Retrier(Runtime& runtime, Timer& timer,
          std::shared_ptr<Promise::Executor> executor)
      : runtime_(runtime),
        timer_(timer),
        executor_(std::move(executor)),
        mutex_(runtime, "Retrier"),
        idle_(runtime, "Retrier.idle") {}

  // `deadline` is that of the whole call: no attempt begins after it. The
  // attempts themselves must end by then. `label`: `CallOptions::label`.
  Future Start(const RetryOptions& options, absl::Time deadline,
               Attempt attempt, Activity::Token active, std::string label = "");

  // Completes with `status` the calls that wait for their next attempt, and
  // those of which an attempt fails from now on. Waits for attempts that are
  // just being made.
  void Close(const absl::Status& status);

  int64_t num_retries() const { return num_retries_; }

 private:
  struct Call;
  void Try(const std::shared_ptr<Call>& call);
  void OnAttemptDone(const std::shared_ptr<Call>& call,
                     const Future::Result& result);
  void Cancel(uint64_t number);
  void Finish(Call& call, Future::Result result);

  Runtime& runtime_;
  Timer& timer_;
  const std::shared_ptr<Promise::Executor> executor_;
  std::atomic<int64_t> num_retries_ = 0;
  Mutex mutex_;
  CondVar idle_;  // num_trying_ fell to 0
  std::map<uint64_t, std::shared_ptr<Call>> calls_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 1;
  int num_trying_ ABSL_GUARDED_BY(mutex_) = 0;
  // Not OK after `Close`.
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_CLIENT_RETRY_H_
