// Clocks and sleeps. libstdc++ and the compiler call them by these names, so
// the vDSO behind them does not matter.

#include <sched.h>
#include <sys/time.h>
#include <sys/times.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "sim/interpose/interposed_world.h"
#include "sim/interpose/real.h"
#include "sim/world/race_annotations.h"

namespace reprise::interpose {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

void SleepUntil(World& world, int64_t deadline_ns, const void* return_address) {
  const InSimulator in_simulator;
  const CallSite call = SiteOfCall(world, Verb::kSleep, return_address);
  Point(world, call);
  if (deadline_ns <= world.now_ns()) return;
  const KeepErrno keep_errno;
  world.scheduler().Block(*call.site, call.Because("sleeps in", "sleeps"),
                          deadline_ns);
}

timespec ToTimespec(int64_t ns) { return {ns / kSecondNs, ns % kSecondNs}; }

// How long a yield takes: 1 us, and twice as long as the one before if its
// caller did nothing since that took time, up to 1 ms. A loop that yields for
// ever would otherwise fill the trace before the run's time limit ends it.
int64_t YieldNs(World& world) {
  constexpr int64_t kShortestNs = 1'000;
  constexpr int64_t kLongestNs = 1'000'000;
  InterposedThread& thread = ThreadOf(Self(world));
  const int64_t now_ns = world.now_ns();
  thread.yield_ns = now_ns - thread.yielded_ns <= thread.yield_ns
                        ? std::min(2 * thread.yield_ns, kLongestNs)
                        : kShortestNs;
  thread.yielded_ns = now_ns;
  return thread.yield_ns;
}

// What `sleep` and its kin accept.
bool IsDuration(const timespec* time) {
  return time->tv_sec >= 0 && time->tv_nsec >= 0 && time->tv_nsec < kSecondNs;
}

}  // namespace
}  // namespace reprise::interpose

using reprise::World;
using namespace reprise::interpose;  // NOLINT(google-build-using-namespace)

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(clock_gettime)(clock, time);
  *time = ToTimespec(ClockNow(*world, clock));
  return 0;
}

int gettimeofday(timeval* time, void* zone) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(gettimeofday)(time, zone);
  const timespec now = ToTimespec(ClockNow(*world, CLOCK_REALTIME));
  *time = {now.tv_sec, now.tv_nsec / 1000};
  return 0;
}

time_t time(time_t* result) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(time)(result);
  const time_t now = ClockNow(*world, CLOCK_REALTIME) / kSecondNs;
  if (result != nullptr) *result = now;
  return now;
}

int timespec_get(timespec* time, int base) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(timespec_get)(time, base);
  *time = ToTimespec(ClockNow(*world, CLOCK_REALTIME));
  return base;
}

// Code takes no virtual time: processor time is the time of the run.
clock_t clock() noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(clock)();
  return world->now_ns() / (kSecondNs / CLOCKS_PER_SEC);
}

clock_t times(tms* buffer) noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(times)(buffer);
  if (buffer != nullptr) *buffer = {};
  return world->now_ns() / (kSecondNs / 100);
}

int nanosleep(const timespec* duration, timespec* left) {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(nanosleep)(duration, left);
  if (!IsDuration(duration)) {
    errno = EINVAL;
    return -1;
  }
  SleepUntil(*world, DeadlineAfter(*world, duration),
             __builtin_return_address(0));
  return 0;
}

int clock_nanosleep(clockid_t clock, int flags, const timespec* time,
                    timespec* left) {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(clock_nanosleep)(clock, flags, time, left);
  }
  if (!IsDuration(time)) return EINVAL;
  SleepUntil(*world,
             (flags & TIMER_ABSTIME) != 0 ? DeadlineOn(clock, time)
                                          : DeadlineAfter(*world, time),
             __builtin_return_address(0));
  return 0;
}

unsigned sleep(unsigned seconds) {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(sleep)(seconds);
  const timespec duration{static_cast<time_t>(seconds), 0};
  SleepUntil(*world, DeadlineAfter(*world, &duration),
             __builtin_return_address(0));
  return 0;
}

int usleep(useconds_t microseconds) {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(usleep)(microseconds);
  const timespec duration = ToTimespec(int64_t{microseconds} * 1000);
  SleepUntil(*world, DeadlineAfter(*world, &duration),
             __builtin_return_address(0));
  return 0;
}

// All others run before the caller goes on, and the time moves, so that a loop
// that yields until another thread has done something comes to an end.
int sched_yield() noexcept {
  World* const world = WorldOfCaller();
  if (world == nullptr) return REPRISE_REAL(sched_yield)();
  SleepUntil(*world, world->now_ns() + YieldNs(*world),
             __builtin_return_address(0));
  return 0;
}

}  // extern "C"
