#include "sim/interpose/interposed_world.h"

#include <sys/single_threaded.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "absl/base/internal/sysinfo.h"
#include "absl/strings/str_cat.h"
#include "sim/interpose/state.h"

namespace reprise {

namespace interpose {
namespace {

using Queue = InterposedWorld::Queue;

constexpr int64_t kWallStartNs = int64_t{1'600'000'000} * 1'000'000'000;
constexpr int64_t kBootStartNs = int64_t{1'000} * 1'000'000'000;

constexpr const char* kVerbs[] = {"lock",  "wait", "sleep",  "start", "join",
                                  "futex", "sem",  "rwlock", "once",  "poll"};

// The ids of a run's fibers have its number in common.
constexpr int kFiberIdBit = 1 << 29;
constexpr int kRunBits = 9;
std::atomic<int> next_run{0};
std::atomic<bool> run_lives[1 << kRunBits];

int RunOf(int owner) { return (owner >> kFiberBits) & ((1 << kRunBits) - 1); }

size_t Hash(const void* a, const void* b = nullptr, uint64_t c = 0) {
  uint64_t mixed = reinterpret_cast<uintptr_t>(a) * 0x9e3779b97f4a7c15u;
  mixed ^= (reinterpret_cast<uintptr_t>(b) + c) * 0xd6e8feb86659fd93u;
  return static_cast<size_t>(mixed >> 40);
}

Queue& QueueOf(World& world, const void* address) {
  return world.interposed->queues[Hash(address) % InterposedWorld::kQueues];
}

void Remove(Queue& queue, AddressWaiter* before, AddressWaiter& waiter) {
  (before == nullptr ? queue.first : before->next) = waiter.next;
  if (queue.last == &waiter) queue.last = before;
  waiter.queued = false;
}

// What must be so before a world first runs code of a user's threads: libstdc++
// skips wake-ups in a process that is said to have one thread, and libabsl
// measures the frequency of the clock at its first use, for which it sleeps.
void PrepareProcess() {
  static const bool done = [] {
    __libc_single_threaded = 0;
    absl::base_internal::NumCPUs();
    absl::base_internal::NominalCPUFrequency();
    return true;
  }();
  (void)done;
}

// The one function that makes labels of places.
const Place& MakePlace(World& world, Verb verb, const CodePlace& code) {
  const char* const name = kVerbs[static_cast<size_t>(verb)];
  Decisions& decisions = world.decisions();
  if (code.kind == PlaceKind::kUser) {
    return decisions.PlaceAt(absl::StrCat(name, ":", code.label));
  }
  if (verb == Verb::kLock) return decisions.PlaceAt("lock:tensorpipe");
  if (verb == Verb::kFutex) return decisions.PlaceAt("wait:future");
  return decisions.PlaceAt(absl::StrCat(name, ":library"));
}

}  // namespace

void TakeRunNumber(InterposedWorld& state) {
  state.run =
      next_run.fetch_add(1, std::memory_order_relaxed) & ((1 << kRunBits) - 1);
  run_lives[state.run] = true;
  state.owner_bits = kFiberIdBit | (state.run << kFiberBits);
}

void ReturnRunNumber(InterposedWorld& state) { run_lives[state.run] = false; }

KeepErrno::KeepErrno() : errno_(errno) {}
KeepErrno::~KeepErrno() { errno = errno_; }

InterposedThread& ThreadOf(Fiber& fiber) {
  if (fiber.interposed == nullptr) {
    const OutsideWorld outside;
    fiber.interposed = new InterposedThread();
  }
  return *fiber.interposed;
}

const CodePlace& ImmediatePlace(World& world, const void* return_address) {
  InterposedWorld::CachedPlace& cached =
      world.interposed->places[Hash(return_address) % InterposedWorld::kCached];
  if (cached.return_address != return_address) {
    const KeepErrno keep_errno;
    const OutsideWorld outside;
    cached.place = &PlaceOf(return_address);
    cached.return_address = return_address;
  }
  return *cached.place;
}

const CodePlace& UserPlace(World& world, const void* return_address,
                           const CodePlace** library) {
  const CodePlace& place = ImmediatePlace(world, return_address);
  *library = nullptr;
  const KeepErrno keep_errno;
  const CodePlace* user = &place;
  if (place.kind == PlaceKind::kLibrary) {
    const OutsideWorld outside;
    user = &PlaceOfUser(return_address, library);
  }
  if (user->kind == PlaceKind::kUser && !world.interposed->prepared) {
    const OutsideWorld outside;
    PrepareProcess();
    world.interposed->prepared = true;
  }
  return *user;
}

CallSite SiteOfCall(World& world, Verb verb, const void* return_address) {
  if (const NamedCall* const named = NamedCallOf(world)) {
    if (verb == named->verb) return named->call;
    if (verb == Verb::kLock && named->lock.site != nullptr) return named->lock;
  }
  const CodePlace* place = &ImmediatePlace(world, return_address);
  // Locks of a library guard its own secrets, some of them only in the first
  // run of a process.
  const bool is_lock = verb == Verb::kLock || verb == Verb::kRwLock;
  if (!(is_lock && place->in_shared_library)) {
    const CodePlace* library = nullptr;
    place = &UserPlace(world, return_address, &library);
  }
  InterposedWorld::CachedSite& cached =
      world.interposed
          ->sites[Hash(place, nullptr, static_cast<uint64_t>(verb)) %
                  InterposedWorld::kCached];
  if (cached.code != place || cached.verb != verb) {
    cached = {place, verb, &MakePlace(world, verb, *place)};
  }
  return {&Self(world).sites.At(*cached.place), place};
}

void Point(World& world, const CallSite& call) {
  if (!call.is_user()) return;
  const KeepErrno keep_errno;
  world.scheduler().MaybePreempt(*call.site);
}

bool BlockAt(World& world, Site& site, WaitReason reason, const void* address,
             int64_t deadline_ns, uint32_t bits) {
  const KeepErrno keep_errno;
  Fiber& self = Self(world);
  AddressWaiter waiter{&self, address, bits, true, nullptr};
  Queue& queue = QueueOf(world, address);
  (queue.last == nullptr ? queue.first : queue.last->next) = &waiter;
  queue.last = &waiter;
  self.wait_address = address;
  const bool woken = world.scheduler().Block(site, reason, deadline_ns);
  self.wait_address = nullptr;
  if (waiter.queued) {  // Its time passed, or it inherits from the dead.
    AddressWaiter* before = nullptr;
    for (AddressWaiter* at = queue.first; at != &waiter; at = at->next) {
      before = at;
    }
    Remove(queue, before, waiter);
  }
  return woken;
}

void FailIfCircular(World& world, const WaitReason& reason) {
  constexpr int kLongest = 64;
  const Fiber& self = Self(world);
  std::string circle = self.label;
  const WaitReason* step = &reason;
  for (int i = 0; i < kLongest && step->holder != nullptr; ++i) {
    const auto* const holder = static_cast<const Fiber*>(*step->holder);
    if (holder == nullptr) return;
    absl::StrAppend(&circle, i == 0 ? " " : ", which ", step->verb, " ",
                    std::string(step->name), ", held by ", holder->label);
    if (holder == &self) {
      world.Fail("deadlock", circle);
      return;
    }
    if (holder->state != FiberState::kBlocked ||
        holder->wake_ns != Scheduler::kNever) {
      return;
    }
    step = &holder->waiting;
  }
}

int WakeAt(World& world, const void* address, int most, uint32_t bits) {
  Queue& queue = QueueOf(world, address);
  int woken = 0;
  AddressWaiter* before = nullptr;
  for (AddressWaiter* at = queue.first; at != nullptr && woken < most;) {
    AddressWaiter* const next = at->next;
    const FiberState state = at->fiber->state;
    if (state == FiberState::kDead) {
      Remove(queue, before, *at);
    } else if (at->address == address && (at->bits & bits) != 0 &&
               state == FiberState::kBlocked) {
      Remove(queue, before, *at);
      world.scheduler().Wake(at->fiber);
      ++woken;
    } else {
      before = at;
    }
    at = next;
  }
  return woken;
}

int NumWaitingAt(World& world, const void* address) {
  int number = 0;
  for (AddressWaiter* at = QueueOf(world, address).first; at != nullptr;
       at = at->next) {
    if (at->address == address && at->fiber->state == FiberState::kBlocked) {
      ++number;
    }
  }
  return number;
}

void FailCall(World& world, const void* return_address, std::string_view what,
              std::string_view instead) {
  const CodePlace* library = nullptr;
  const CodePlace& place = UserPlace(world, return_address, &library);
  const std::string caller = Self(world).label;
  world.Fail(
      "not-simulated",
      absl::StrCat(
          caller, " calls ", std::string(what), " in ", place.where,
          ", which a simulated world cannot answer: ", std::string(instead)));
  for (;;) {
    Site& site = Self(world).sites.At(world.decisions().PlaceAt("fail"));
    world.scheduler().Block(site, {"calls", ""}, Scheduler::kNever);
  }
}

// What a clock shows beyond the steady clock of its node.
int64_t OffsetOf(NodeClock& clock, bool is_wall) {
  if (!is_wall) return kBootStartNs;
  const InSimulator in_simulator;
  return kWallStartNs + clock.ReadOffset();
}

int64_t ClockNow(World& world, clockid_t clock) {
  const bool is_wall = clock == CLOCK_REALTIME ||
                       clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
  const Fiber* const fiber = world.scheduler().current();
  if (fiber == nullptr) {
    return world.now_ns() + (is_wall ? kWallStartNs : kBootStartNs);
  }
  NodeClock& own = *fiber->node->clock;
  return own.Steady(world.now_ns()) + OffsetOf(own, is_wall);
}

int64_t SteadyNow(const Node& node) {
  return node.clock->Steady(node.world->now_ns()) + kBootStartNs;
}

int64_t DeadlineOn(clockid_t clock, const timespec* time) {
  constexpr int64_t kMaxSeconds = 9'000'000'000;
  if (time == nullptr || time->tv_sec > kMaxSeconds) return Scheduler::kNever;
  const bool is_wall = clock == CLOCK_REALTIME || clock == CLOCK_TAI;
  NodeClock& own = *Self(*World::Current()).node->clock;
  return own.WorldAt(int64_t{time->tv_sec} * 1'000'000'000 + time->tv_nsec -
                     OffsetOf(own, is_wall));
}

int64_t DeadlineAfter(World& world, const timespec* duration) {
  constexpr int64_t kMaxSeconds = 9'000'000'000 - 10'000'000;
  if (duration == nullptr || duration->tv_sec > kMaxSeconds) {
    return Scheduler::kNever;
  }
  const NodeClock& own = *Self(world).node->clock;
  return own.WorldAt(own.Steady(world.now_ns()) +
                     int64_t{duration->tv_sec} * 1'000'000'000 +
                     duration->tv_nsec);
}

bool IsFiberId(int owner) { return (owner >> (kRunBits + kFiberBits)) == 1; }

bool IsOfAnotherRun(World& world, int owner) {
  return RunOf(owner) != world.interposed->run;
}

bool IsDeadOwner(World& world, int owner, const void* holder) {
  if (!IsFiberId(owner)) return false;
  const int run = RunOf(owner);
  if (run != world.interposed->run) return !run_lives[run];
  return static_cast<const Fiber*>(holder)->state == FiberState::kDead;
}

uint64_t RandomBits(World& world) {
  Site& site = Self(world).sites.At(world.decisions().PlaceAt("libc random"));
  site.Visit();
  return site.Bits(DecisionKind::kLatency);
}

void FillRandom(World& world, void* bytes, size_t size) {
  auto* const out = static_cast<char*>(bytes);
  for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
    const uint64_t bits = RandomBits(world);
    std::memcpy(out + i, &bits, std::min(sizeof(bits), size - i));
  }
}

uint64_t& RandState(World& world) {
  const Node* const node = Self(world).node;
  auto& states = world.interposed->rand_states;
  for (auto& [owner, state] : states) {
    if (owner == node) return state;
  }
  const OutsideWorld outside;
  return states.emplace_back(node, 1).second;
}

void NoteDetached(World& world, Fiber& fiber) {
  ThreadOf(fiber).detached = true;
  world.interposed->has_detached = true;
  world.scheduler().MakeDaemon(fiber);
}

}  // namespace interpose
}  // namespace reprise
