// `Mutex`, `MutexLock` and `CondVar` of the runtime seam (see runtime.h).
//
//   MutexLock lock(mutex_);
//   while (queue_.empty()) {
//     if (!not_empty_.WaitUntil(mutex_, deadline)) return DeadlineExceeded();
//   }
//
// A wait may wake spuriously: always wait in a loop over the condition.

#ifndef REPRISE_AGENT_RUNTIME_MUTEX_H_
#define REPRISE_AGENT_RUNTIME_MUTEX_H_

#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Not recursive. `name` is a literal: it labels the lock in deadlock reports
// and labels the simulator's decisions at it, so keep it stable.
class ABSL_LOCKABLE Mutex {
 public:
  Mutex(Runtime& runtime, const char* name) : runtime_(runtime), name_(name) {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { runtime_.Lock(*this); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { runtime_.Unlock(*this); }

  const char* name() const { return name_; }

  // For implementations of `Runtime` only. The real runtime uses `native`, a
  // simulated one the pointers.
  struct Slots {
    std::mutex native;
    void* holder = nullptr;
    void* first_waiter = nullptr;
    void* site = nullptr;
  };
  Slots& slots() { return slots_; }

 private:
  friend class CondVar;
  Runtime& runtime_;
  const char* const name_;
  Slots slots_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex)
      : mutex_(mutex) {
    mutex_.Lock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }

 private:
  Mutex& mutex_;
};

// `name`: as for `Mutex`. Notify with or without the mutex held, but change
// the condition with it held.
class CondVar {
 public:
  CondVar(Runtime& runtime, const char* name)
      : runtime_(runtime), name_(name) {}
  CondVar(const CondVar&) = delete;
  CondVar& operator=(const CondVar&) = delete;

  // Returns false when `deadline` passed without a notification.
  bool WaitUntil(Mutex& mutex, absl::Time deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return runtime_.Wait(*this, mutex, deadline);
  }
  void NotifyOne() { runtime_.Notify(*this, /*all=*/false); }
  void NotifyAll() { runtime_.Notify(*this, /*all=*/true); }

  const char* name() const { return name_; }

  // For implementations of `Runtime` only, as in `Mutex`.
  struct Slots {
    std::condition_variable native;
    void* first_waiter = nullptr;
    void* site = nullptr;
  };
  Slots& slots() { return slots_; }

 private:
  Runtime& runtime_;
  const char* const name_;
  Slots slots_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_RUNTIME_MUTEX_H_
