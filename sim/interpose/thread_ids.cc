// Every function of libc that takes a pthread_t. libc would take the handle of
// a fiber for an address.

#include "sim/interpose/thread_ids.h"

#include <sched.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): pthread_kill

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sim/interpose/real.h"

using reprise::Fiber;
using reprise::FiberState;
using reprise::World;
using namespace reprise::interpose;  // NOLINT(google-build-using-namespace)

namespace {

// TensorPipe asks often.
inline pthread_t RealSelf() {
#ifdef __x86_64__
  // That is what glibc's returns there.
  return reinterpret_cast<pthread_t>(__builtin_thread_pointer());
#else
  return REPRISE_REAL(pthread_self)();
#endif
}

// Without optimisation the caller is std::this_thread::get_id, and its own
// caller counts.
bool IsOfQuietCode(World& world, const void* return_address) {
  const CodePlace& place = ImmediatePlace(world, return_address);
  if (place.kind != PlaceKind::kLibrary || place.in_shared_library) {
    return place.kind == PlaceKind::kQuiet;
  }
  const CodePlace* library = nullptr;
  return UserPlace(world, return_address, &library).kind == PlaceKind::kQuiet;
}

}  // namespace

extern "C" {

// TensorPipe compares ids of threads to see whether it is in its own loop, and
// all fibers of a node are one thread to it.
pthread_t pthread_self() noexcept {
  if (IsQuietCall(__builtin_return_address(0))) return RealSelf();
  World* const world = WorldOfCaller();
  if (world == nullptr || IsOfQuietCode(*world, __builtin_return_address(0))) {
    return RealSelf();
  }
  return HandleOf(Self(*world));
}

int pthread_setname_np(pthread_t handle, const char* name) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_setname_np)(handle, name);
  constexpr size_t kMost = 15;
  if (FiberOf(*world, handle) == nullptr) return ESRCH;
  return std::strlen(name) > kMost ? ERANGE : 0;  // Labels stay as they are.
}

int pthread_getname_np(pthread_t handle, char* name, size_t size) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_getname_np)(handle, name, size);
  }
  const Fiber* const fiber = FiberOf(*world, handle);
  if (fiber == nullptr) return ESRCH;
  constexpr size_t kLeast = 16;
  if (size < kLeast) return ERANGE;
  const size_t length = std::min(fiber->label.size(), kLeast - 1);
  std::memcpy(name, fiber->label.data(), length);
  name[length] = 0;
  return 0;
}

int pthread_getattr_np(pthread_t handle, pthread_attr_t* attributes) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_getattr_np)(handle, attributes);
  }
  const Fiber* const fiber = FiberOf(*world, handle);
  if (fiber == nullptr) return ESRCH;
  if (fiber->stack.low == nullptr) {  // A thread of its own, or one that ended.
    return REPRISE_REAL(pthread_getattr_np)(REPRISE_REAL(pthread_self)(),
                                            attributes);
  }
  const int error = pthread_attr_init(attributes);
  if (error != 0) return error;
  return pthread_attr_setstack(attributes, fiber->stack.low, fiber->stack.size);
}

int pthread_getschedparam(pthread_t handle, int* policy,
                          sched_param* parameters) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_getschedparam)(handle, policy, parameters);
  }
  *policy = SCHED_OTHER;
  parameters->sched_priority = 0;
  return 0;
}

int pthread_setschedparam(pthread_t handle, int policy,
                          const sched_param* parameters) noexcept {
  World* const world = WorldOfCaller();
  if (world != nullptr) return 0;
  return REPRISE_REAL(pthread_setschedparam)(handle, policy, parameters);
}

int pthread_setschedprio(pthread_t handle, int priority) noexcept {
  World* const world = WorldOfCaller();
  if (world != nullptr) return 0;
  return REPRISE_REAL(pthread_setschedprio)(handle, priority);
}

int pthread_setaffinity_np(pthread_t handle, size_t size,
                           const cpu_set_t* set) noexcept {
  World* const world = WorldOfCaller();
  if (world != nullptr) return 0;
  return REPRISE_REAL(pthread_setaffinity_np)(handle, size, set);
}

int pthread_getaffinity_np(pthread_t handle, size_t size,
                           cpu_set_t* set) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_getaffinity_np)(handle, size, set);
  }
  constexpr int kProcessors = 4;  // as sysconf says
  std::memset(set, 0, size);
  for (int i = 0; i < kProcessors; ++i) CPU_SET_S(i, size, set);
  return 0;
}

int pthread_getcpuclockid(pthread_t handle, clockid_t* clock) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_getcpuclockid)(handle, clock);
  }
  *clock = CLOCK_THREAD_CPUTIME_ID;
  return 0;
}

// Only whether the thread is there can be asked.
int pthread_kill(pthread_t handle, int signal) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_kill)(handle, signal);
  const Fiber* const fiber = FiberOf(*world, handle);
  if (fiber == nullptr || fiber->state == FiberState::kDone) return ESRCH;
  if (signal == 0) return 0;
  FailCall(*world, __builtin_return_address(0), "pthread_kill",
           "tell the thread by a flag and a condition variable");
}

int pthread_sigqueue(pthread_t handle, int signal, sigval value) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(pthread_sigqueue)(handle, signal, value);
  }
  FailCall(*world, __builtin_return_address(0), "pthread_sigqueue",
           "tell the thread by a flag and a condition variable");
}

int pthread_cancel(pthread_t handle) {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(pthread_cancel)(handle);
  FailCall(*world, __builtin_return_address(0), "pthread_cancel",
           "use std::jthread and its stop_token");
}

}  // extern "C"
