// The locks of libabsl for ThreadSanitizer, which does not see into a libabsl
// that was built without it: what a thread does with a lock held comes before
// what the next holder does. It is announced outside of worlds as well.
//
// Lock, TryLock and their kin are in absl_calls.cc. Condition variables are
// announced by the mutex that their waiters take again.

#include "sim/world/race_annotations.h"

#ifdef REPRISE_TSAN

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "sim/interpose/reader_races.h"
#include "sim/interpose/real.h"

namespace reprise::interpose {
namespace {

using absl::Condition;
using absl::CondVar;
using absl::Duration;
using absl::Mutex;
using absl::Time;

#define ABSL_MUTEX "_ZN4absl7debian35Mutex"
#define ABSL_COND_VAR "_ZN4absl7debian37CondVar"

constinit Real real_unlock(ABSL_MUTEX "6UnlockEv");
constinit Real real_reader_unlock(ABSL_MUTEX "12ReaderUnlockEv");
constinit Real real_await(ABSL_MUTEX "5AwaitERKNS0_9ConditionE");
constinit Real real_await_for(
    ABSL_MUTEX "16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE");
constinit Real real_await_until(
    ABSL_MUTEX "17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE");
constinit Real real_lock_when(ABSL_MUTEX "8LockWhenERKNS0_9ConditionE");
constinit Real real_lock_when_for(
    ABSL_MUTEX "19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE");
constinit Real real_lock_when_until(
    ABSL_MUTEX "20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE");
constinit Real real_wait(ABSL_COND_VAR "4WaitEPNS0_5MutexE");
constinit Real real_wait_for(ABSL_COND_VAR
                             "15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE");
constinit Real real_wait_until(ABSL_COND_VAR
                               "16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");

// Calls a function of libabsl. In its course conditions are evaluated, those of
// others among them, by whoever holds the mutex inside of libabsl.
template <typename Result, typename... Arguments>
Result Call(Real& function, Arguments... arguments) {
  const InSimulator unseen;
  return reinterpret_cast<Result (*)(Arguments...)>(function.get())(
      arguments...);
}

// Calls one that may give `mutex` back meanwhile, and returns with it held.
template <typename Result, typename... Arguments>
Result CallHolding(Real& function, Mutex* mutex, Arguments... arguments) {
  struct AfterIt {
    explicit AfterIt(Mutex* mutex) : mutex(mutex) { AnnounceReleaseOf(mutex); }
    AfterIt(const AfterIt&) = delete;
    AfterIt& operator=(const AfterIt&) = delete;
    ~AfterIt() { AnnounceAcquireOf(mutex); }
    Mutex* const mutex;
  } const after_it(mutex);
  return Call<Result>(function, arguments...);
}

}  // namespace
}  // namespace reprise::interpose

namespace absl {
ABSL_NAMESPACE_BEGIN

using namespace reprise::interpose;  // NOLINT(google-build-using-namespace)

void Mutex::Unlock() {
  AnnounceReleaseOf(this);
  Call<void>(real_unlock, this);
}

void Mutex::ReaderUnlock() {
  AnnounceReaderReleaseOf(this);
  Call<void>(real_reader_unlock, this);
}

void Mutex::Await(const Condition& condition) {
  CallHolding<void>(real_await, this, this, &condition);
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  return CallHolding<bool>(real_await_for, this, this, &condition, timeout);
}

bool Mutex::AwaitWithDeadline(const Condition& condition, Time deadline) {
  return CallHolding<bool>(real_await_until, this, this, &condition, deadline);
}

void Mutex::LockWhen(const Condition& condition) {
  Call<void>(real_lock_when, this, &condition);
  AnnounceAcquireOf(this);
}

bool Mutex::LockWhenWithTimeout(const Condition& condition, Duration timeout) {
  const bool holds = Call<bool>(real_lock_when_for, this, &condition, timeout);
  AnnounceAcquireOf(this);
  return holds;
}

bool Mutex::LockWhenWithDeadline(const Condition& condition, Time deadline) {
  const bool holds =
      Call<bool>(real_lock_when_until, this, &condition, deadline);
  AnnounceAcquireOf(this);
  return holds;
}

void CondVar::Wait(Mutex* mutex) {
  CallHolding<void>(real_wait, mutex, this, mutex);
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  return CallHolding<bool>(real_wait_for, mutex, this, mutex, timeout);
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  return CallHolding<bool>(real_wait_until, mutex, this, mutex, deadline);
}

ABSL_NAMESPACE_END
}  // namespace absl

#endif
