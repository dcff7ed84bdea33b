#include "agent/runtime/timer.h"

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "agent/planted.h"
#include "agent/rare_way.h"
#include "agent/runtime/thread_pool.h"
#include "glog/logging.h"

namespace reprise {

Timer::Timer(Runtime& runtime, std::string name)
    : runtime_(runtime),
      name_(std::move(name)),
      mutex_(runtime, "Timer"),
      changed_(runtime, "Timer.changed") {}

Timer::~Timer() {
  MutexLock lock(mutex_);
  CHECK(thread_ == nullptr)
      << "timer '" << name_ << "' was destroyed before its Stop";
}

absl::Status Timer::Start() {
  MutexLock lock(mutex_);
  if (thread_ != nullptr || stopping_ || StartThread()) {
    return absl::OkStatus();
  }
  return CannotStartThread(name_);
}

bool Timer::StartThread() {
  thread_ = runtime_.StartThread(name_, [this] { Loop(); });
  return thread_ != nullptr;
}

Timer::Key Timer::Schedule(absl::Time when,
                           absl::AnyInvocable<void()> callback) {
  MutexLock lock(mutex_);
  const Key key(when, next_sequence_++);
  if (stopping_ || when == absl::InfiniteFuture()) return key;
  // Most callers use the same timeout, so the hint is mostly right.
  scheduled_.emplace_hint(scheduled_.end(), key, std::move(callback));
  if (thread_ == nullptr) {
    StartThread();
  } else if (when < sleeping_until_) {
    sleeping_until_ = when;  // one notification is enough for later times
    // This notifies with the lock held: once it is released, the callback may
    // run, and the timer's owner may destroy the timer.
    changed_.NotifyOne();
  }
  return key;
}

bool Timer::Cancel(const Key& key) {
  // Declared before the lock: a callback is destroyed after it is released.
  std::map<Key, absl::AnyInvocable<void()>>::node_type cancelled;
  MutexLock lock(mutex_);
  cancelled = scheduled_.extract(key);
  // The thread may now wake for nothing; that is cheaper than waking it here.
  return !cancelled.empty();
}

void Timer::Loop() {
  while (true) {
    std::map<Key, absl::AnyInvocable<void()>>::node_type due;
    {
      MutexLock lock(mutex_);
      while (true) {
        if (stopping_) return;
        const absl::Time next = scheduled_.empty()
                                    ? absl::InfiniteFuture()
                                    : scheduled_.begin()->first.first;
        if (next != absl::InfiniteFuture() && runtime_.Now() >= next) break;
        sleeping_until_ = next;
        changed_.WaitUntil(
            mutex_, REPRISE_RARE_WAY("timer wakes") ? runtime_.Now() : next);
        sleeping_until_ = absl::InfinitePast();
      }
      due = scheduled_.extract(scheduled_.begin());
    }
    if (REPRISE_RARE_WAY("timer is late")) {
      runtime_.SleepUntil(runtime_.Now() + absl::Microseconds(500));
    }
    due.mapped()();
  }
}

void Timer::Stop() {
  if (REPRISE_PLANTED(lost_wakeup)) {
    StopWithoutLock();
    return;
  }
  // Declared before the lock, as in `Cancel`.
  std::map<Key, absl::AnyInvocable<void()>> dropped;
  std::unique_ptr<Thread> thread;
  {
    MutexLock lock(mutex_);
    if (stopping_) {
      while (!stopped_) changed_.WaitUntil(mutex_, absl::InfiniteFuture());
      return;
    }
    stopping_ = true;
    dropped.swap(scheduled_);
    thread = std::move(thread_);
    changed_.NotifyAll();
  }
  if (thread != nullptr) thread->Join();
  MutexLock lock(mutex_);
  stopped_ = true;
  changed_.NotifyAll();
}

// Planted: if the thread is between its look at the flag and its wait, it
// misses the notification and sleeps on.
void Timer::StopWithoutLock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  stopping_ = true;
  changed_.NotifyAll();
  const std::unique_ptr<Thread> thread = std::move(thread_);
  if (thread != nullptr) thread->Join();
  scheduled_.clear();
}

int Timer::size() {
  MutexLock lock(mutex_);
  return static_cast<int>(scheduled_.size());
}

}  // namespace reprise
