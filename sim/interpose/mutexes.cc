// pthread_mutex_*: std::mutex, recursive_mutex, timed_mutex and their kin.
//
// The words of glibc's mutex keep their meaning, so that one mutex may be
// locked by fibers and by real threads: `__lock` is 0, 1 (held) or 2 (held, and
// somebody waits), `__owner` is a thread or a fiber. The last 16 bytes, which
// only robust mutexes use, point to the fiber that holds the mutex, as reports
// of a deadlock want to know it.

#include "sim/interpose/mutexes.h"

#include <linux/futex.h>
#include <sys/syscall.h>

#include <cerrno>

#include "sim/interpose/real.h"
#include "sim/interpose/state.h"
#include "sim/world/race_annotations.h"

namespace reprise::interpose {
namespace {

// Robust mutexes, and those with priorities, have other protocols.
constexpr int kOtherProtocols = 0x70;

int TypeOf(const pthread_mutex_t& mutex) { return mutex.__data.__kind & 3; }

bool TryTake(pthread_mutex_t& mutex, int word) {
  int expected = 0;
  return __atomic_compare_exchange_n(&mutex.__data.__lock, &expected, word,
                                     /*weak=*/false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED);
}

void*& HolderOf(pthread_mutex_t& mutex) {
  return reinterpret_cast<void*&>(mutex.__data.__list.__prev);
}

void BecomeOwner(World& world, pthread_mutex_t& mutex) {
  auto& data = mutex.__data;
  data.__owner = OwnerIdOf(world, Self(world));
  data.__count = TypeOf(mutex) == PTHREAD_MUTEX_RECURSIVE ? 1 : 0;
  ++data.__nusers;
  HolderOf(mutex) = &Self(world);
  AnnounceAcquire(&mutex);
}

// Held by a fiber that died, in a crash or at the end of an earlier run.
void TakeFromTheDead(pthread_mutex_t& mutex) {
  mutex.__data.__owner = 0;
  mutex.__data.__count = 0;
  --mutex.__data.__nusers;
  __atomic_store_n(&mutex.__data.__lock, 0, __ATOMIC_RELEASE);
}

// Waits for a mutex that another has, and takes it.
int AcquireContended(World& world, pthread_mutex_t& mutex, int64_t deadline_ns,
                     bool only_try, const void* return_address) {
  auto& data = mutex.__data;
  // Whether others wait, too: then the one who unlocks must look.
  int word = 1;
  while (!TryTake(mutex, word)) {
    const int owner = __atomic_load_n(&data.__owner, __ATOMIC_RELAXED);
    if (IsDeadOwner(world, owner, HolderOf(mutex))) {
      TakeFromTheDead(mutex);
      continue;
    }
    if (only_try) return EBUSY;
    if (!IsFiberId(owner) || IsOfAnotherRun(world, owner)) {
      // A real thread has it, or is about to: it gives it back in real time.
      const int result = REPRISE_REAL(pthread_mutex_lock)(&mutex);
      if (result == 0) --data.__nusers;
      if (result != 0) return result;
      break;
    }
    if (deadline_ns <= world.now_ns()) return ETIMEDOUT;
    if (__atomic_exchange_n(&data.__lock, 2, __ATOMIC_ACQUIRE) == 0) break;
    const CallSite call = SiteOfCall(world, Verb::kLock, return_address);
    if (call.is_user()) {
      const WaitReason reason =
          call.Because("locks a mutex in", "locks", &HolderOf(mutex));
      if (deadline_ns == Scheduler::kNever) FailIfCircular(world, reason);
      BlockAt(world, *call.site, reason, &mutex, deadline_ns);
    } else {
      call.site->Visit();
      BlockAt(world, *call.site,
              {"waits for", "a library's lock", &HolderOf(mutex)}, &mutex,
              deadline_ns);
    }
    word = NumWaitingAt(world, &mutex) != 0 ? 2 : 1;
  }
  BecomeOwner(world, mutex);
  return 0;
}

// A point at the user's locks, and at TensorPipe's if the schedule says so.
void PointAtLock(World& world, const void* return_address) {
  if (IsQuietCall(return_address) &&
      __builtin_expect(!world.options().schedule.tensorpipe_locks, 1)) {
    return;
  }
  if (NamedCallOf(world) != nullptr) return;  // There was one, by its name.
  const CodePlace& place = ImmediatePlace(world, return_address);
  if (place.kind == PlaceKind::kQuiet || place.in_shared_library) {
    if (__builtin_expect(!world.options().schedule.tensorpipe_locks, 1)) return;
  }
  const CallSite call = SiteOfCall(world, Verb::kLock, return_address);
  if (!call.is_user() && !world.options().schedule.tensorpipe_locks) return;
  const KeepErrno keep_errno;
  world.scheduler().MaybePreempt(*call.site);
}

// `AcquireMutex`, at most of whose calls the mutex is an ordinary one and free.
inline int Acquire(World& world, pthread_mutex_t* mutex, int64_t deadline_ns,
                   bool only_try, const void* return_address) {
  if (__builtin_expect(
          mutex->__data.__kind == PTHREAD_MUTEX_NORMAL && TryTake(*mutex, 1),
          1)) {
    BecomeOwner(world, *mutex);
    return 0;
  }
  return AcquireMutex(world, mutex, deadline_ns, only_try, return_address);
}

int Lock(World& world, pthread_mutex_t* mutex, int64_t deadline_ns,
         bool only_try, const void* return_address) {
  const InSimulator in_simulator;
  PointAtLock(world, return_address);
  return Acquire(world, mutex, deadline_ns, only_try, return_address);
}

}  // namespace

int AcquireMutex(World& world, pthread_mutex_t* mutex, int64_t deadline_ns,
                 bool only_try, const void* return_address) {
  auto& data = mutex->__data;
  if (__builtin_expect((data.__kind & kOtherProtocols) != 0, 0)) {
    FailCall(world, return_address, "pthread_mutex_lock of a robust mutex",
             "use an ordinary mutex");
  }
  const int type = TypeOf(*mutex);
  if ((type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK) &&
      data.__owner == OwnerIdOf(world, Self(world))) {
    if (type != PTHREAD_MUTEX_RECURSIVE) return only_try ? EBUSY : EDEADLK;
    ++data.__count;
    return 0;
  }
  if (__builtin_expect(!TryTake(*mutex, 1), 0)) {
    return AcquireContended(world, *mutex, deadline_ns, only_try,
                            return_address);
  }
  BecomeOwner(world, *mutex);
  return 0;
}

void NoteWaiters(World& world, pthread_mutex_t* mutex) {
  if (NumWaitingAt(world, mutex) == 0) return;
  __atomic_store_n(&mutex->__data.__lock, 2, __ATOMIC_RELAXED);
}

int ReleaseMutex(World& world, pthread_mutex_t* mutex) {
  auto& data = mutex->__data;
  if (const int type = TypeOf(*mutex);
      type == PTHREAD_MUTEX_RECURSIVE || type == PTHREAD_MUTEX_ERRORCHECK) {
    if (data.__owner != OwnerIdOf(world, Self(world))) return EPERM;
    if (type == PTHREAD_MUTEX_RECURSIVE && --data.__count != 0) return 0;
  }
  AnnounceRelease(mutex);
  data.__owner = 0;
  --data.__nusers;
  HolderOf(*mutex) = nullptr;
  if (__atomic_exchange_n(&data.__lock, 0, __ATOMIC_RELEASE) == 2 &&
      WakeAt(world, mutex, 1) == 0) {
    const KeepErrno keep_errno;  // A real thread may wait.
    SystemCall(SYS_futex, reinterpret_cast<intptr_t>(&data.__lock),
               FUTEX_WAKE_PRIVATE, 1);
  }
  return 0;
}

}  // namespace reprise::interpose

using reprise::Scheduler;
using reprise::World;
using namespace reprise::interpose;  // NOLINT(google-build-using-namespace)

extern "C" {

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_mutex_lock)(mutex);
  return Lock(*world, mutex, Scheduler::kNever, /*only_try=*/false,
              __builtin_return_address(0));
}

int pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_mutex_trylock)(mutex);
  return Lock(*world, mutex, Scheduler::kNever, /*only_try=*/true,
              __builtin_return_address(0));
}

int pthread_mutex_timedlock(pthread_mutex_t* mutex,
                            const timespec* deadline) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_mutex_timedlock)(mutex, deadline);
  }
  return Lock(*world, mutex, DeadlineOn(CLOCK_REALTIME, deadline),
              /*only_try=*/false, __builtin_return_address(0));
}

int pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock,
                            const timespec* deadline) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_mutex_clocklock)(mutex, clock, deadline);
  }
  return Lock(*world, mutex, DeadlineOn(clock, deadline), /*only_try=*/false,
              __builtin_return_address(0));
}

int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_mutex_unlock)(mutex);
  const reprise::InSimulator in_simulator;
  return ReleaseMutex(*world, mutex);
}

}  // extern "C"
