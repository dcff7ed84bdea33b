// A gate at which the threads of a test wait until it is opened, without a
// deadline.

#ifndef REPRISE_TESTS_UNIT_RUNTIME_LATCH_H_
#define REPRISE_TESTS_UNIT_RUNTIME_LATCH_H_

#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

class Latch {
 public:
  void Open() {
    MutexLock lock(mutex_);
    open_ = true;
    opened_.NotifyAll();
  }
  void Wait() {
    MutexLock lock(mutex_);
    while (!open_) opened_.WaitUntil(mutex_, absl::InfiniteFuture());
  }

 private:
  Mutex mutex_{RealRuntime(), "Latch"};
  CondVar opened_{RealRuntime(), "Latch.opened"};
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_RUNTIME_LATCH_H_
