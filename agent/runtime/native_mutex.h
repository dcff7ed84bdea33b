// A lock for what lies beneath the runtime seam: transports, whose threads are
// the operating system's in the simulator, too. Everything above it uses
// `Mutex` (mutex.h).
//
// It is no `absl::Mutex`, because the thread sanitizer cannot see into an
// Abseil that was built without it; and it knows thread annotations, as
// `std::mutex` does not.

#ifndef REPRISE_AGENT_RUNTIME_NATIVE_MUTEX_H_
#define REPRISE_AGENT_RUNTIME_NATIVE_MUTEX_H_

#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"

namespace reprise {

// Not recursive.
class ABSL_LOCKABLE NativeMutex {
 public:
  constexpr NativeMutex() = default;
  NativeMutex(const NativeMutex&) = delete;
  NativeMutex& operator=(const NativeMutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { native_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { native_.unlock(); }

 private:
  friend class NativeCondVar;
  std::mutex native_;
};

class ABSL_SCOPED_LOCKABLE NativeMutexLock {
 public:
  explicit NativeMutexLock(NativeMutex& mutex)
      ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex)
      : mutex_(mutex) {
    mutex_.Lock();
  }
  NativeMutexLock(const NativeMutexLock&) = delete;
  NativeMutexLock& operator=(const NativeMutexLock&) = delete;
  ~NativeMutexLock() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }

 private:
  NativeMutex& mutex_;
};

// Notify with or without the mutex held. A wait may wake spuriously.
class NativeCondVar {
 public:
  void Wait(NativeMutex& mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::unique_lock<std::mutex> lock(mutex.native_, std::adopt_lock);
    changed_.wait(lock);
    (void)lock.release();
  }
  void NotifyAll() { changed_.notify_all(); }

 private:
  std::condition_variable changed_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_RUNTIME_NATIVE_MUTEX_H_
