// `syscall`: the futexes of std::future, std::atomic::wait, latches, barriers,
// semaphores and of libabsl, and the system calls that read what a world has of
// its own.

#include <linux/futex.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "sim/interpose/interposed_world.h"
#include "sim/interpose/real.h"
#include "sim/world/race_annotations.h"

namespace reprise::interpose {
namespace {

struct FutexCall {
  uint32_t* word;
  int operation;
  uint32_t value;
  const timespec* time;
  uint32_t bits;
};

int Fail(int error) {
  errno = error;
  return -1;
}

int Wait(World& world, const FutexCall& futex, int64_t deadline_ns,
         uint32_t bits, const void* return_address) {
  const InSimulator in_simulator;
  const CallSite call = SiteOfCall(world, Verb::kFutex, return_address);
  Point(world, call);
  if (__atomic_load_n(futex.word, __ATOMIC_ACQUIRE) != futex.value) {
    return Fail(EAGAIN);
  }
  if (deadline_ns <= world.now_ns()) return Fail(ETIMEDOUT);
  // TensorPipe waits for a std::future.
  if (!call.is_user()) call.site->Visit();
  const WaitReason reason =
      call.is_user()
          ? WaitReason{"waits for another thread in", call.place->where}
          : WaitReason{"waits for", "a std::future"};
  if (!BlockAt(world, *call.site, reason, futex.word, deadline_ns, bits)) {
    return Fail(ETIMEDOUT);
  }
  AnnounceAcquire(futex.word);
  return 0;
}

int Wake(World& world, const FutexCall& futex, uint32_t bits) {
  const InSimulator in_simulator;
  AnnounceRelease(futex.word);
  const int most = static_cast<int>(futex.value);
  const int woken = WakeAt(world, futex.word, most, bits);
  if (woken == most) return woken;
  const KeepErrno keep_errno;  // Real threads may wait.
  SystemCall(SYS_futex, reinterpret_cast<intptr_t>(futex.word),
             FUTEX_WAKE_PRIVATE, most - woken);
  return woken;
}

int Futex(World& world, const FutexCall& futex, const void* return_address) {
  switch (futex.operation & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
      return Wait(world, futex, DeadlineAfter(world, futex.time), UINT32_MAX,
                  return_address);
    case FUTEX_WAIT_BITSET: {
      const bool is_wall = (futex.operation & FUTEX_CLOCK_REALTIME) != 0;
      return Wait(
          world, futex,
          DeadlineOn(is_wall ? CLOCK_REALTIME : CLOCK_MONOTONIC, futex.time),
          futex.bits, return_address);
    }
    case FUTEX_WAKE:
      return Wake(world, futex, UINT32_MAX);
    case FUTEX_WAKE_BITSET:
      return Wake(world, futex, futex.bits);
    default:
      FailCall(
          world, return_address,
          absl::StrCat("futex operation ", futex.operation & FUTEX_CMD_MASK),
          "use the locks of std:: or absl::");
  }
}

bool IsClone(long number) {  // NOLINT(google-runtime-int): syscall's type
  return number == SYS_clone || number == SYS_clone3 || number == SYS_fork ||
         number == SYS_vfork;
}

}  // namespace
}  // namespace reprise::interpose

using reprise::World;
using namespace reprise::interpose;  // NOLINT(google-build-using-namespace)

// The compiler cannot know how many arguments were passed, and the sanitizers
// would complain of those that were not.
extern "C" __attribute__((no_sanitize("address", "undefined"))) long  // NOLINT
syscall(long number, ...) noexcept {                                  // NOLINT
  long arguments[6];                                                  // NOLINT
  va_list list;
  va_start(list, number);
  for (auto& argument : arguments) argument = va_arg(list, long);  // NOLINT
  va_end(list);
  World* const world = WorldOfCaller();
  if (world != nullptr) {
    switch (number) {
      case SYS_futex:
        return Futex(*world,
                     {reinterpret_cast<uint32_t*>(arguments[0]),
                      static_cast<int>(arguments[1]),
                      static_cast<uint32_t>(arguments[2]),
                      reinterpret_cast<const timespec*>(arguments[3]),
                      static_cast<uint32_t>(arguments[5])},
                     __builtin_return_address(0));
      case SYS_gettid:
        return gettid();
      case SYS_getpid:
        return getpid();
      case SYS_sched_yield:
        return sched_yield();
      case SYS_getrandom:
        return getrandom(reinterpret_cast<void*>(arguments[0]),
                         static_cast<size_t>(arguments[1]), 0);
      case SYS_clock_gettime:
        return clock_gettime(static_cast<clockid_t>(arguments[0]),
                             reinterpret_cast<timespec*>(arguments[1]));
      case SYS_nanosleep:
        return nanosleep(reinterpret_cast<const timespec*>(arguments[0]),
                         reinterpret_cast<timespec*>(arguments[1]));
      default:
        break;
    }
    if (IsClone(number)) {
      FailCall(*world, __builtin_return_address(0), "clone or fork",
               "start threads with std::thread or pthread_create");
    }
  }
  return SystemCall(number, arguments[0], arguments[1], arguments[2],
                    arguments[3], arguments[4], arguments[5]);
}
