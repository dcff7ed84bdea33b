// One thread that runs callbacks at their times.
//
// It is started by `Start`, or else by the first `Schedule`: a timer that is
// never used costs nothing.

#ifndef REPRISE_AGENT_RUNTIME_TIMER_H_
#define REPRISE_AGENT_RUNTIME_TIMER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Thread-safe. `Stop` must be called before it is destroyed, and not from a
// callback.
class Timer {
 public:
  // Names one scheduled callback; ordered by time, then by scheduling order.
  using Key = std::pair<absl::Time, uint64_t>;

  Timer(Runtime& runtime, std::string name);
  ~Timer();

  // Starts the thread. RESOURCE_EXHAUSTED when that is impossible.
  absl::Status Start();

  // `callback` runs on the timer's thread, with no lock held, at `when` or
  // later, never earlier; it must be quick and must not block.
  // `absl::InfiniteFuture()` never runs. After `Stop`, nothing is scheduled.
  // While there is no thread and none can be started, callbacks wait for a
  // later `Schedule` that starts one.
  Key Schedule(absl::Time when, absl::AnyInvocable<void()> callback);

  // Returns false when the callback already ran, is running, or never will.
  bool Cancel(const Key& key);

  // Drops what is scheduled and waits for a running callback. Idempotent; every
  // caller returns after the thread has ended.
  void Stop();

  // The number of callbacks that were scheduled and neither run nor cancelled.
  int size();

 private:
  void Loop();
  bool StartThread() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // For the planted defect `lost_wakeup`.
  void StopWithoutLock();

  Runtime& runtime_;
  const std::string name_;
  Mutex mutex_;
  CondVar changed_;  // an earlier time, stopping_ or stopped_ was set
  std::map<Key, absl::AnyInvocable<void()>> scheduled_ ABSL_GUARDED_BY(mutex_);
  // What the thread sleeps for: only an earlier time needs to wake it. In the
  // past while it is awake.
  absl::Time sleeping_until_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  uint64_t next_sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<Thread> thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_RUNTIME_TIMER_H_
