// What the interposed functions share: whether a world answers the caller, the
// site of a call, points, and waiting by address.
//
// A function that is interposed reads
//
//   int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
//     World* const world = WorldOfCaller();
//     if (world == nullptr) return REPRISE_REAL(pthread_mutex_lock)(mutex);
//     ...
//   }
//
// so a thread outside of worlds pays one load of a thread_local. Everything
// else here is called by the running fiber of `world`, and keeps errno.

#ifndef REPRISE_SIM_INTERPOSE_INTERPOSED_WORLD_H_
#define REPRISE_SIM_INTERPOSE_INTERPOSED_WORLD_H_

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "sim/interpose/place.h"
#include "sim/world/arena.h"
#include "sim/world/interposition.h"
#include "sim/world/world.h"

namespace reprise {

namespace interpose {
struct NamedCall;
}  // namespace interpose

// A fiber as a thread of libc. Made at first use, outside the arena.
struct InterposedThread {
  std::vector<void*> key_values;    // by pthread_key_t
  std::vector<void*> held_rwlocks;  // addresses, a row for each holding
  void* result = nullptr;           // of pthread_exit or the function
  void* exit = nullptr;             // where pthread_exit goes to
  bool is_thread = false;           // pthread_create made it
  bool detached = false;
  bool joined = false;
  int64_t yielded_ns = 0;  // when it yielded last
  int64_t yield_ns = -1;   // and for how long; -1: never yet
  // What it is doing in the agent's runtime; null: nothing.
  const interpose::NamedCall* named = nullptr;
};

}  // namespace reprise

namespace reprise::interpose {

// The world that answers the calling thread, or null.
inline World* WorldOfCaller() {
  World* const world = World::Current();
  if (__builtin_expect(world == nullptr, 1)) return nullptr;
  if (world->scheduler().current() == nullptr || RealCalls::IsActive()) {
    return nullptr;
  }
  return world;
}

inline Fiber& Self(World& world) { return *world.scheduler().current(); }

InterposedThread& ThreadOf(Fiber& fiber);

// For what the interposed functions themselves allocate and call.
class OutsideWorld {
 private:
  const ArenaPause pause_;
  const RealCalls real_;
};

// Keeps errno: a function that does not fail leaves it alone, though other
// fibers run meanwhile.
class KeepErrno {
 public:
  KeepErrno();
  KeepErrno(const KeepErrno&) = delete;
  KeepErrno& operator=(const KeepErrno&) = delete;
  ~KeepErrno();

 private:
  const int errno_;
};

// What a call does, as the labels of sites have it.
enum class Verb : uint8_t {
  kLock,
  kWait,
  kSleep,
  kStart,
  kJoin,
  kFutex,
  kSemaphore,
  kRwLock,
  kOnce,
  kPoll,
};

// A call of an interposed function. A place is a verb and the function
// that called: an anonymous mutex has no name that another build would share.
struct CallSite {
  Site* site = nullptr;
  const CodePlace* place = nullptr;
  bool is_user() const { return place->kind == PlaceKind::kUser; }
  // Why its thread waits: "locks a mutex in Work (work.cc:31)" or, if the place
  // is a name, "locks Table". The verbs are literals.
  WaitReason Because(const char* verb_of_place, const char* verb_of_name,
                     const void* const* holder = nullptr) const {
    return {place->is_name ? verb_of_name : verb_of_place, place->where,
            holder};
  }
};

// A call of the agent's runtime by a running fiber, which has names for what
// it locks, waits for and starts. The calls of libc in its course have their
// sites by these.
struct NamedCall {
  Verb verb;
  CallSite call;
  CallSite lock = {};  // of the mutex that a wait gives back and takes again
};

// What the running fiber is doing there; null: nothing.
inline const NamedCall* NamedCallOf(World& world) {
  const InterposedThread* const thread = Self(world).interposed;
  return thread == nullptr ? nullptr : thread->named;
}

// `return_address` is the interposed function's own.
CallSite SiteOfCall(World& world, Verb verb, const void* return_address);

// The place alone. For calls of shared libraries it is the library's.
const CodePlace& ImmediatePlace(World& world, const void* return_address);

// The user's place, and the last function of a library that it called, or null.
const CodePlace& UserPlace(World& world, const void* return_address,
                           const CodePlace** library);

// Lets the schedule switch or stall, if the call is the user's.
void Point(World& world, const CallSite& call);

// Blocks the running fiber until it is woken at `address`, or until
// `deadline_ns`, and returns false in the latter case. First come, first
// served.
bool BlockAt(World& world, Site& site, WaitReason reason, const void* address,
             int64_t deadline_ns = Scheduler::kNever,
             uint32_t bits = UINT32_MAX);

// Fails the run if the running fiber, which is about to wait for `reason`
// without a deadline, would wait for itself: the timers of an agent go on for
// ever, so the world may never come to a stop by which a deadlock shows.
void FailIfCircular(World& world, const WaitReason& reason);

// Wakes at most `most` of the fibers that wait at `address` with a common bit,
// and returns how many.
int WakeAt(World& world, const void* address, int most,
           uint32_t bits = UINT32_MAX);
int NumWaitingAt(World& world, const void* address);

// Fails the run, as the function `what` cannot be answered by a world, and does
// not return. `instead` says what to use.
[[noreturn]] void FailCall(World& world, const void* return_address,
                           std::string_view what, std::string_view instead);

// The clocks of libc in virtual time. The wall clock starts at the date of
// `World::Now`, the others at 1,000 s.
int64_t ClockNow(World& world, clockid_t clock);
// What CLOCK_MONOTONIC reads on this node.
int64_t SteadyNow(const Node& node);
// A time on `clock`, as virtual time. Null is never.
int64_t DeadlineOn(clockid_t clock, const timespec* time);
// A duration, as virtual time.
int64_t DeadlineAfter(World& world, const timespec* duration);

// Of the thread ids by which mutexes note their owners (`OwnerIdOf`): whether
// they are of fibers, of this run, and of the dead. Ids of other worlds in this
// process are those of the living.
bool IsFiberId(int owner);
bool IsOfAnotherRun(World& world, int owner);
bool IsDeadOwner(World& world, int owner, const void* holder);

// 64 bits that depend on the seed, the node, and how many were drawn before.
uint64_t RandomBits(World& world);
void FillRandom(World& world, void* bytes, size_t size);

// The state of rand() of the running fiber's node.
uint64_t& RandState(World& world);

// Notes that the node of the running fiber has a detached thread.
void NoteDetached(World& world, Fiber& fiber);

}  // namespace reprise::interpose

#endif  // REPRISE_SIM_INTERPOSE_INTERPOSED_WORLD_H_
