// pthread_cond_*: std::condition_variable and condition_variable_any.
//
// The object is left untouched: fibers wait at its address. Its one bit that is
// read says which clock its deadlines are on.

#include <pthread.h>

#include <cerrno>
#include <climits>

#include "sim/interpose/interposed_world.h"
#include "sim/interpose/mutexes.h"
#include "sim/interpose/real.h"
#include "sim/world/race_annotations.h"

namespace reprise::interpose {
namespace {

int Wait(World& world, pthread_cond_t* condition, pthread_mutex_t* mutex,
         int64_t deadline_ns, const void* return_address) {
  const InSimulator in_simulator;
  const CallSite call = SiteOfCall(world, Verb::kWait, return_address);
  // This point lies between a caller's test of its condition and its sleep.
  Point(world, call);
  const unsigned count = mutex->__data.__count;
  const bool is_recursive =
      (mutex->__data.__kind & 3) == PTHREAD_MUTEX_RECURSIVE;
  if (is_recursive) mutex->__data.__count = 1;
  if (const int error = ReleaseMutex(world, mutex); error != 0) return error;
  // Nothing runs between the release and the begin of the wait.
  const bool waits = deadline_ns > world.now_ns();
  const bool in_time =
      waits &&
      BlockAt(world, *call.site,
              call.Because("waits for a condition variable in", "waits for"),
              condition, deadline_ns);
  // `SimRuntime` has a point there, too.
  const NamedCall* const named = NamedCallOf(world);
  if (!waits && named != nullptr && named->lock.site != nullptr) {
    world.scheduler().MaybePreempt(*named->lock.site);
  }
  const int error = AcquireMutex(world, mutex, Scheduler::kNever,
                                 /*only_try=*/false, return_address);
  if (error != 0) return error;
  if (is_recursive) mutex->__data.__count = count;
  return in_time ? 0 : ETIMEDOUT;
}

}  // namespace
}  // namespace reprise::interpose

using reprise::Scheduler;
using reprise::World;
using namespace reprise::interpose;  // NOLINT(google-build-using-namespace)

// Of these libc has older versions as well.
#define REAL_CONDITION(name) REPRISE_REAL_VERSION(name, "GLIBC_2.3.2")

extern "C" {

int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REAL_CONDITION(pthread_cond_wait)(condition, mutex);
  }
  return Wait(*world, condition, mutex, Scheduler::kNever,
              __builtin_return_address(0));
}

int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                           const timespec* deadline) {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REAL_CONDITION(pthread_cond_timedwait)(condition, mutex, deadline);
  }
  constexpr unsigned kIsMonotonic = 2;
  const clockid_t clock = (condition->__data.__wrefs & kIsMonotonic) != 0
                              ? CLOCK_MONOTONIC
                              : CLOCK_REALTIME;
  return Wait(*world, condition, mutex, DeadlineOn(clock, deadline),
              __builtin_return_address(0));
}

int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                           clockid_t clock, const timespec* deadline) {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_cond_clockwait)(condition, mutex, clock,
                                                deadline);
  }
  return Wait(*world, condition, mutex, DeadlineOn(clock, deadline),
              __builtin_return_address(0));
}

int pthread_cond_signal(pthread_cond_t* condition) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REAL_CONDITION(pthread_cond_signal)(condition);
  const reprise::InSimulator in_simulator;
  WakeAt(*world, condition, 1);
  return 0;
}

int pthread_cond_broadcast(pthread_cond_t* condition) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REAL_CONDITION(pthread_cond_broadcast)(condition);
  }
  const reprise::InSimulator in_simulator;
  WakeAt(*world, condition, INT_MAX);
  return 0;
}

// The real one would wait for real waiters to leave.
int pthread_cond_destroy(pthread_cond_t* condition) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REAL_CONDITION(pthread_cond_destroy)(condition);
  return 0;
}

}  // extern "C"
