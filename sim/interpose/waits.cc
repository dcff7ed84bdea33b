// Read-write locks (std::shared_mutex), sem_t, barriers, spin locks and
// pthread_once (std::call_once). The real `try...` functions say whether a
// fiber may go on; it waits at the object's address.

#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <optional>

#include "sim/interpose/interposed_world.h"
#include "sim/interpose/reader_races.h"
#include "sim/interpose/real.h"
#include "sim/interpose/rwlocks.h"
#include "sim/world/race_annotations.h"
#include "sim/world/static_guard.h"

// Where std::call_once leaves its callable for pthread_once to call.
namespace std {
extern __thread void* __once_callable;  // NOLINT
extern __thread void (*__once_call)();  // NOLINT
}  // namespace std

namespace reprise::interpose {
namespace {

void NoteHolding(World& world, pthread_rwlock_t* lock) {
  InterposedThread& thread = ThreadOf(Self(world));
  const OutsideWorld outside;
  thread.held_rwlocks.push_back(lock);
}

// A read lock may be given back by another than took it; then that one is noted
// as its holder until it ends.
void ForgetHolding(World& world, pthread_rwlock_t* lock) {
  InterposedThread* const thread = Self(world).interposed;
  if (thread == nullptr) return;
  auto& held = thread->held_rwlocks;
  const auto it = std::find(held.begin(), held.end(), lock);
  if (it != held.end()) held.erase(it);
}

// A fiber that holds `lock`, or null.
const Fiber* HolderOf(World& world, pthread_rwlock_t* lock) {
  for (const auto& fiber : world.scheduler().fibers()) {
    if (fiber->interposed == nullptr) continue;
    const auto& held = fiber->interposed->held_rwlocks;
    if (std::find(held.begin(), held.end(), lock) != held.end()) {
      return fiber.get();
    }
  }
  return nullptr;
}

enum class RwHolding : uint8_t { kRead, kWrite };

int LockRw(World& world, pthread_rwlock_t* lock, RwHolding holding,
           int64_t deadline_ns, bool only_try, const void* return_address) {
  const InSimulator in_simulator;
  const CallSite call = SiteOfCall(world, Verb::kRwLock, return_address);
  Point(world, call);
  for (;;) {
    const int result = holding == RwHolding::kWrite
                           ? REPRISE_REAL(pthread_rwlock_trywrlock)(lock)
                           : REPRISE_REAL(pthread_rwlock_tryrdlock)(lock);
    if (result == 0) {
      NoteHolding(world, lock);
      if (holding == RwHolding::kWrite) {
        AnnounceAcquireOf(lock);
      } else {
        AnnounceReaderAcquireOf(lock);
      }
    }
    if (result != EBUSY || only_try) return result;
    if (deadline_ns <= world.now_ns()) return ETIMEDOUT;
    const void* const holder = HolderOf(world, lock);
    const WaitReason reason{"locks a shared mutex in", call.place->where,
                            &holder};
    if (deadline_ns == Scheduler::kNever) FailIfCircular(world, reason);
    BlockAt(world, *call.site, reason, lock, deadline_ns);
  }
}

int WaitForSemaphore(World& world, sem_t* semaphore, int64_t deadline_ns,
                     const void* return_address) {
  const InSimulator in_simulator;
  const CallSite call = SiteOfCall(world, Verb::kSemaphore, return_address);
  Point(world, call);
  while (sem_trywait(semaphore) != 0) {
    if (deadline_ns <= world.now_ns()) {
      errno = ETIMEDOUT;
      return -1;
    }
    BlockAt(world, *call.site, {"waits for a semaphore in", call.place->where},
            semaphore, deadline_ns);
  }
  AnnounceAcquire(semaphore);
  return 0;
}

// glibc's barrier: the third of its words is the number of threads.
unsigned CountOf(const pthread_barrier_t* barrier) {
  return reinterpret_cast<const unsigned*>(barrier)[2];
}

// The states of a pthread_once_t, by glibc or by TSan's own pthread_once, which
// answers outside of worlds.
constexpr int kOnceRunning = kHasTsan ? 1 << 16 : 1;
constexpr int kOnceDone = kHasTsan ? 1 : 2;

bool IsStatic(const void* object) {
  dl_find_object found;
  return _dl_find_object(const_cast<void*>(object), &found) == 0;
}

int Once(World& world, pthread_once_t* once, void (*function)(),
         const void* return_address) {
  void* const callable = std::__once_callable;
  void (*const call_it)() = std::__once_call;
  for (;;) {
    const int state = __atomic_load_n(once, __ATOMIC_ACQUIRE);
    if ((state & kOnceDone) != 0) {
      AnnounceAcquire(once);
      return 0;
    }
    if (state == 0) break;
    const InSimulator in_simulator;
    const CallSite call = SiteOfCall(world, Verb::kOnce, return_address);
    BlockAt(world, *call.site, {"waits for a call_once in", call.place->where},
            once);
  }
  __atomic_store_n(once, kOnceRunning, __ATOMIC_RELAXED);
  // Others may have left theirs while this fiber waited.
  std::__once_callable = callable;
  std::__once_call = call_it;
  // What a once_flag of the process makes outlives the run.
  std::optional<StaticScope> outlives_the_run;
  if (IsStatic(once)) outlives_the_run.emplace();
  try {
    function();
  } catch (...) {
    __atomic_store_n(once, 0, __ATOMIC_RELEASE);
    WakeAt(world, once, INT_MAX);
    throw;
  }
  AnnounceRelease(once);
  __atomic_store_n(once, kOnceDone, __ATOMIC_RELEASE);
  WakeAt(world, once, INT_MAX);
  return 0;
}

}  // namespace

void ReleaseRwLock(void* rwlock) {
  REPRISE_REAL(pthread_rwlock_unlock)(static_cast<pthread_rwlock_t*>(rwlock));
}

}  // namespace reprise::interpose

using reprise::Scheduler;
using reprise::World;
using namespace reprise::interpose;  // NOLINT(google-build-using-namespace)

extern "C" {

int pthread_rwlock_rdlock(pthread_rwlock_t* lock) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_rwlock_rdlock)(lock);
  return LockRw(*world, lock, RwHolding::kRead, Scheduler::kNever, false,
                __builtin_return_address(0));
}

int pthread_rwlock_wrlock(pthread_rwlock_t* lock) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_rwlock_wrlock)(lock);
  return LockRw(*world, lock, RwHolding::kWrite, Scheduler::kNever, false,
                __builtin_return_address(0));
}

int pthread_rwlock_tryrdlock(pthread_rwlock_t* lock) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_rwlock_tryrdlock)(lock);
  return LockRw(*world, lock, RwHolding::kRead, Scheduler::kNever, true,
                __builtin_return_address(0));
}

int pthread_rwlock_trywrlock(pthread_rwlock_t* lock) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_rwlock_trywrlock)(lock);
  return LockRw(*world, lock, RwHolding::kWrite, Scheduler::kNever, true,
                __builtin_return_address(0));
}

int pthread_rwlock_timedrdlock(pthread_rwlock_t* lock,
                               const timespec* time) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_rwlock_timedrdlock)(lock, time);
  }
  return LockRw(*world, lock, RwHolding::kRead,
                DeadlineOn(CLOCK_REALTIME, time), false,
                __builtin_return_address(0));
}

int pthread_rwlock_timedwrlock(pthread_rwlock_t* lock,
                               const timespec* time) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_rwlock_timedwrlock)(lock, time);
  }
  return LockRw(*world, lock, RwHolding::kWrite,
                DeadlineOn(CLOCK_REALTIME, time), false,
                __builtin_return_address(0));
}

int pthread_rwlock_clockrdlock(pthread_rwlock_t* lock, clockid_t clock,
                               const timespec* time) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_rwlock_clockrdlock)(lock, clock, time);
  }
  return LockRw(*world, lock, RwHolding::kRead, DeadlineOn(clock, time), false,
                __builtin_return_address(0));
}

int pthread_rwlock_clockwrlock(pthread_rwlock_t* lock, clockid_t clock,
                               const timespec* time) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_rwlock_clockwrlock)(lock, clock, time);
  }
  return LockRw(*world, lock, RwHolding::kWrite, DeadlineOn(clock, time), false,
                __builtin_return_address(0));
}

int pthread_rwlock_unlock(pthread_rwlock_t* lock) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_rwlock_unlock)(lock);
  const reprise::InSimulator in_simulator;
  if (lock->__data.__cur_writer != 0) {
    AnnounceReleaseOf(lock);
  } else {
    AnnounceReaderReleaseOf(lock);
  }
  const int result = REPRISE_REAL(pthread_rwlock_unlock)(lock);
  ForgetHolding(*world, lock);
  WakeAt(*world, lock, INT_MAX);
  return result;
}

int sem_wait(sem_t* semaphore) {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(sem_wait)(semaphore);
  return WaitForSemaphore(*world, semaphore, Scheduler::kNever,
                          __builtin_return_address(0));
}

int sem_timedwait(sem_t* semaphore, const timespec* time) {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(sem_timedwait)(semaphore, time);
  return WaitForSemaphore(*world, semaphore, DeadlineOn(CLOCK_REALTIME, time),
                          __builtin_return_address(0));
}

int sem_clockwait(sem_t* semaphore, clockid_t clock, const timespec* time) {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(sem_clockwait)(semaphore, clock, time);
  }
  return WaitForSemaphore(*world, semaphore, DeadlineOn(clock, time),
                          __builtin_return_address(0));
}

int sem_post(sem_t* semaphore) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(sem_post)(semaphore);
  const reprise::InSimulator in_simulator;
  reprise::AnnounceRelease(semaphore);
  const int result = REPRISE_REAL(sem_post)(semaphore);
  WakeAt(*world, semaphore, 1);
  return result;
}

int pthread_barrier_wait(pthread_barrier_t* barrier) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_barrier_wait)(barrier);
  const reprise::InSimulator in_simulator;
  const CallSite call =
      SiteOfCall(*world, Verb::kWait, __builtin_return_address(0));
  Point(*world, call);
  reprise::AnnounceRelease(barrier);
  const int last = static_cast<int>(CountOf(barrier)) - 1;
  if (NumWaitingAt(*world, barrier) < last) {
    BlockAt(*world, *call.site, {"waits at a barrier in", call.place->where},
            barrier);
    reprise::AnnounceAcquire(barrier);
    return 0;
  }
  WakeAt(*world, barrier, last);
  reprise::AnnounceAcquire(barrier);
  return PTHREAD_BARRIER_SERIAL_THREAD;
}

// A fiber that spun would spin for ever.
int pthread_spin_lock(pthread_spinlock_t* lock) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_spin_lock)(lock);
  const reprise::InSimulator in_simulator;
  const CallSite call =
      SiteOfCall(*world, Verb::kLock, __builtin_return_address(0));
  Point(*world, call);
  while (REPRISE_REAL(pthread_spin_trylock)(lock) != 0) {
    BlockAt(*world, *call.site, {"locks a spin lock in", call.place->where},
            const_cast<const int*>(lock));
  }
  return 0;
}

int pthread_spin_unlock(pthread_spinlock_t* lock) noexcept {
  World* const world = WorldOfCaller();
  const int result = REPRISE_REAL(pthread_spin_unlock)(lock);
  if (world == nullptr) return result;
  const reprise::InSimulator in_simulator;
  WakeAt(*world, const_cast<const int*>(lock), 1);
  return result;
}

int pthread_once(pthread_once_t* once, void (*function)()) {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_once)(once, function);
  return Once(*world, once, function, __builtin_return_address(0));
}

}  // extern "C"
