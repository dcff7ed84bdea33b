// poll, select and epoll_wait: a fiber asks without waiting, and lets virtual
// time pass between. Pipes, eventfds and socket pairs whose ends are both in
// the world work so. What comes from outside of it comes at no virtual time.

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include <algorithm>
#include <csignal>

#include "sim/interpose/interposed_world.h"
#include "sim/interpose/real.h"
#include "sim/world/race_annotations.h"

namespace reprise::interpose {
namespace {

constexpr int64_t kFirstStepNs = 20'000;
constexpr int64_t kLongestStepNs = 10'000'000;

// Calls `ask` until it returns anything but 0, or until `deadline_ns`.
template <typename Ask>
int AskUntil(World& world, int64_t deadline_ns, const void* return_address,
             Ask ask) {
  const InSimulator in_simulator;
  const CallSite call = SiteOfCall(world, Verb::kPoll, return_address);
  Point(world, call);
  for (int64_t step_ns = kFirstStepNs;;
       step_ns = std::min(2 * step_ns, kLongestStepNs)) {
    const int result = ask();
    if (result != 0 || deadline_ns <= world.now_ns()) return result;
    const KeepErrno keep_errno;
    world.scheduler().Block(*call.site, {"polls in", call.place->where},
                            std::min(deadline_ns, world.now_ns() + step_ns));
  }
}

int64_t DeadlineInMs(World& world, int timeout_ms) {
  return timeout_ms < 0 ? Scheduler::kNever
                        : world.now_ns() + int64_t{timeout_ms} * 1'000'000;
}

}  // namespace
}  // namespace reprise::interpose

using reprise::World;
using namespace reprise::interpose;  // NOLINT(google-build-using-namespace)

extern "C" {

int poll(pollfd* descriptors, nfds_t number, int timeout_ms) {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(poll)(descriptors, number, timeout_ms);
  }
  return AskUntil(*world, DeadlineInMs(*world, timeout_ms),
                  __builtin_return_address(0),
                  [=] { return REPRISE_REAL(poll)(descriptors, number, 0); });
}

int ppoll(pollfd* descriptors, nfds_t number, const timespec* timeout,
          const sigset_t* mask) {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(ppoll)(descriptors, number, timeout, mask);
  }
  return AskUntil(*world, DeadlineAfter(*world, timeout),
                  __builtin_return_address(0),
                  [=] { return REPRISE_REAL(poll)(descriptors, number, 0); });
}

int select(int number, fd_set* readable, fd_set* writable, fd_set* failed,
           timeval* timeout) {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(select)(number, readable, writable, failed, timeout);
  }
  int64_t deadline_ns = reprise::Scheduler::kNever;
  if (timeout != nullptr) {
    const timespec duration{timeout->tv_sec, timeout->tv_usec * 1000};
    deadline_ns = DeadlineAfter(*world, &duration);
  }
  // An answer of 0 empties the sets.
  fd_set* const sets[3] = {readable, writable, failed};
  fd_set asked[3];
  for (int i = 0; i < 3; ++i) {
    if (sets[i] != nullptr) asked[i] = *sets[i];
  }
  return AskUntil(*world, deadline_ns, __builtin_return_address(0), [&] {
    for (int i = 0; i < 3; ++i) {
      if (sets[i] != nullptr) *sets[i] = asked[i];
    }
    timeval none{};
    return REPRISE_REAL(select)(number, readable, writable, failed, &none);
  });
}

int epoll_wait(int epoll, epoll_event* events, int number, int timeout_ms) {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(epoll_wait)(epoll, events, number, timeout_ms);
  }
  return AskUntil(
      *world, DeadlineInMs(*world, timeout_ms), __builtin_return_address(0),
      [=] { return REPRISE_REAL(epoll_wait)(epoll, events, number, 0); });
}

int epoll_pwait(int epoll, epoll_event* events, int number, int timeout_ms,
                const sigset_t* mask) {
  World* const world = WorldOfCaller();
  if (world == nullptr) {
    return REPRISE_REAL(epoll_pwait)(epoll, events, number, timeout_ms, mask);
  }
  return AskUntil(
      *world, DeadlineInMs(*world, timeout_ms), __builtin_return_address(0),
      [=] { return REPRISE_REAL(epoll_wait)(epoll, events, number, 0); });
}

}  // extern "C"
