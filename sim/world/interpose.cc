// Blocking calls that TensorPipe makes outside the runtime seam, answered by
// the world that runs on this OS thread, if any.
//
// `tensorpipe::Context::join` waits on a std::promise, which is a futex word in
// libstdc++: two symbols that the executable may define. Points at TensorPipe's
// own locks need `pthread_mutex_lock` and `pthread_mutex_unlock`.

#include <bits/atomic_futex.h>
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <climits>
#include <ctime>

#include "sim/world/world.h"

namespace reprise {
namespace {

// The world whose fiber is running, or null.
World* WorldOfFiber() {
  World* const world = World::Current();
  return world != nullptr && world->scheduler().current() != nullptr ? world
                                                                     : nullptr;
}

Site& SiteOfFiber(World& world, std::string_view label) {
  return world.scheduler().current()->sites.At(
      world.decisions().PlaceAt(label));
}

// Blocks the running fiber until `WakeAddress`, for which it is found by the
// address in its `waiting`.
void BlockOnAddress(World& world, std::string_view label, const char* name,
                    const void* address) {
  Site& site = SiteOfFiber(world, label);
  site.Visit();
  Fiber* const fiber = world.scheduler().current();
  fiber->wait_address = address;
  world.scheduler().Block(site, {"waits for", name}, Scheduler::kNever);
  fiber->wait_address = nullptr;
}

void WakeAddress(World& world, const void* address) {
  for (const auto& fiber : world.scheduler().fibers()) {
    if (fiber->wait_address == address) world.scheduler().Wake(fiber.get());
  }
}

#if !defined(__SANITIZE_THREAD__)
using LockFunction = int (*)(pthread_mutex_t*);

LockFunction RealLock() {
  static const auto function =
      reinterpret_cast<LockFunction>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  return function;
}

LockFunction RealUnlock() {
  static const auto function =
      reinterpret_cast<LockFunction>(dlsym(RTLD_NEXT, "pthread_mutex_unlock"));
  return function;
}

World* WorldWithLockPoints() {
  World* const world = WorldOfFiber();
  return world != nullptr && world->options().schedule.tensorpipe_locks
             ? world
             : nullptr;
}
#endif

}  // namespace
}  // namespace reprise

namespace std {

bool __atomic_futex_unsigned_base::_M_futex_wait_until(unsigned* address,
                                                       unsigned value,
                                                       bool has_timeout,
                                                       chrono::seconds s,
                                                       chrono::nanoseconds ns) {
  if (reprise::World* const world = reprise::WorldOfFiber();
      world != nullptr && !has_timeout) {
    while (__atomic_load_n(address, __ATOMIC_ACQUIRE) == value) {
      reprise::BlockOnAddress(*world, "wait:future", "a std::future", address);
    }
    return true;
  }
  // As in libstdc++, the deadline is absolute and on the system clock.
  timespec deadline{static_cast<time_t>(s.count()),
                    static_cast<long>(ns.count())};  // NOLINT
  const long result =  // NOLINT(google-runtime-int)
      syscall(SYS_futex, address, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME,
              value, has_timeout ? &deadline : nullptr, nullptr,
              FUTEX_BITSET_MATCH_ANY);
  return !(result == -1 && errno == ETIMEDOUT);
}

void __atomic_futex_unsigned_base::_M_futex_notify_all(unsigned* address) {
  if (reprise::World* const world = reprise::World::Current()) {
    reprise::WakeAddress(*world, address);
  }
  syscall(SYS_futex, address, FUTEX_WAKE, INT_MAX);
}

}  // namespace std

#if !defined(__SANITIZE_THREAD__)

extern "C" int pthread_mutex_lock(pthread_mutex_t* mutex) {
  reprise::World* const world = reprise::WorldWithLockPoints();
  if (world == nullptr) return reprise::RealLock()(mutex);
  world->scheduler().MaybePreempt(
      reprise::SiteOfFiber(*world, "lock:tensorpipe"));
  int result = pthread_mutex_trylock(mutex);
  while (result == EBUSY) {
    reprise::BlockOnAddress(*world, "lock:tensorpipe", "a TensorPipe lock",
                            mutex);
    result = pthread_mutex_trylock(mutex);
  }
  return result;
}

extern "C" int pthread_mutex_unlock(pthread_mutex_t* mutex) {
  const int result = reprise::RealUnlock()(mutex);
  if (reprise::World* const world = reprise::WorldWithLockPoints()) {
    reprise::WakeAddress(*world, mutex);
  }
  return result;
}

#endif
