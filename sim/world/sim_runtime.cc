#include "sim/world/sim_runtime.h"

#include <utility>

#include "agent/runtime/mutex.h"
#include "sim/world/race_annotations.h"

namespace reprise {
namespace {

// A queue of waiting fibers, first come first served, whose head lies in a
// lock's slot.
void Enqueue(void*& head, Fiber* fiber) {
  fiber->next_waiter = nullptr;
  if (head == nullptr) {
    head = fiber;
    return;
  }
  auto* last = static_cast<Fiber*>(head);
  while (last->next_waiter != nullptr) last = last->next_waiter;
  last->next_waiter = fiber;
}

Fiber* Dequeue(void*& head) {
  auto* const first = static_cast<Fiber*>(head);
  if (first != nullptr) head = std::exchange(first->next_waiter, nullptr);
  return first;
}

void Remove(void*& head, Fiber* fiber) {
  if (head == fiber) {
    head = std::exchange(fiber->next_waiter, nullptr);
    return;
  }
  for (auto* at = static_cast<Fiber*>(head); at != nullptr;
       at = at->next_waiter) {
    if (at->next_waiter != fiber) continue;
    at->next_waiter = std::exchange(fiber->next_waiter, nullptr);
    return;
  }
}

class SimThread : public Thread {
 public:
  SimThread(World& world, const Place& join, Fiber* fiber)
      : world_(world), join_(join), fiber_(fiber) {}

  void Join() override {
    const InSimulator in;
    Scheduler& scheduler = world_.scheduler();
    Site& site = scheduler.SiteHere(*fiber_->node, join_);
    scheduler.MaybePreempt(site);
    while (fiber_->state != FiberState::kDone) {
      fiber_->joiner = scheduler.current();
      scheduler.Block(site, {"joins", fiber_->label}, Scheduler::kNever);
    }
    AnnounceAcquire(fiber_);
  }

  void Detach() override {}

 private:
  World& world_;
  const Place& join_;
  Fiber* const fiber_;
};

}  // namespace

SimRuntime::SimRuntime(World& world, Node& node)
    : world_(world),
      node_(node),
      sleep_(world.decisions().PlaceAt("sleep")),
      start_(world.decisions().PlaceAt("start")),
      join_(world.decisions().PlaceAt("join")),
      random_(world.decisions().PlaceAt("random")) {}

absl::Time SimRuntime::Now() { return node_.Now(); }

void SimRuntime::SleepUntil(absl::Time deadline) {
  const InSimulator in;
  const int64_t deadline_ns = node_.ToNanoseconds(deadline);
  Site& site = SiteAt(sleep_);
  world_.scheduler().MaybePreempt(site);
  if (deadline_ns <= world_.now_ns()) return;
  world_.scheduler().Block(site, {"sleeps", ""}, deadline_ns);
}

std::unique_ptr<Thread> SimRuntime::StartThread(
    std::string name, absl::AnyInvocable<void()> body) {
  const InSimulator in;
  if (node_.threads.Strikes(world_.now_ns())) return nullptr;
  Fiber* const fiber = world_.scheduler().Start(node_, name, std::move(body));
  auto thread = std::make_unique<SimThread>(world_, join_, fiber);
  world_.scheduler().MaybePreempt(SiteAt(start_));
  return thread;
}

// The bits are a function of the seed and the visit, in a replay too, so there
// is no decision to keep.
uint64_t SimRuntime::RandomBits() {
  const InSimulator in;
  Site& site = SiteAt(random_);
  site.Visit();
  return site.Bits(DecisionKind::kLatency);
}

const void* SimRuntime::CurrentThread() {
  const InSimulator in;
  return world_.scheduler().current();
}

Site& SimRuntime::SiteAt(const Place& place) {
  return world_.scheduler().SiteHere(node_, place);
}

Site& SimRuntime::SiteOf(void*& slot, const char* verb, const char* name) {
  if (slot == nullptr) {
    slot = const_cast<Place*>(&world_.decisions().PlaceAt(verb, name));
  }
  return SiteAt(*static_cast<const Place*>(slot));
}

bool SimRuntime::HasMemory() {
  const InSimulator in;
  return !node_.memory.Strikes(world_.now_ns());
}

void SimRuntime::Lock(Mutex& mutex) {
  const InSimulator in;
  Site& site = SiteOf(mutex.slots().site, "lock", mutex.name());
  world_.scheduler().MaybePreempt(site);
  Acquire(mutex, site);
}

void SimRuntime::Acquire(Mutex& mutex, Site& site) {
  Mutex::Slots& slots = mutex.slots();
  Scheduler& scheduler = world_.scheduler();
  while (slots.holder != nullptr) {
    Enqueue(slots.first_waiter, scheduler.current());
    scheduler.Block(site, {"locks", mutex.name(), &slots.holder},
                    Scheduler::kNever);
  }
  slots.holder = scheduler.current();
  AnnounceAcquire(&mutex);
}

void SimRuntime::Unlock(Mutex& mutex) {
  const InSimulator in;
  AnnounceRelease(&mutex);
  Mutex::Slots& slots = mutex.slots();
  slots.holder = nullptr;
  if (slots.first_waiter != nullptr) {
    world_.scheduler().Wake(Dequeue(slots.first_waiter));
  }
}

bool SimRuntime::Wait(CondVar& cond_var, Mutex& mutex, absl::Time deadline) {
  const InSimulator in;
  CondVar::Slots& slots = cond_var.slots();
  Scheduler& scheduler = world_.scheduler();
  Site& site = SiteOf(slots.site, "wait", cond_var.name());
  const int64_t deadline_ns = node_.ToNanoseconds(deadline);
  // This point lies between a caller's test of its condition and its sleep.
  scheduler.MaybePreempt(site);
  if (deadline_ns <= world_.now_ns()) {
    Unlock(mutex);
    Lock(mutex);
    return false;
  }
  Fiber* const self = scheduler.current();
  Enqueue(slots.first_waiter, self);
  Unlock(mutex);
  const bool notified =
      scheduler.Block(site, {"waits for", cond_var.name()}, deadline_ns);
  if (!notified) Remove(slots.first_waiter, self);
  Acquire(mutex, SiteOf(mutex.slots().site, "lock", mutex.name()));
  return notified;
}

void SimRuntime::Notify(CondVar& cond_var, bool all) {
  const InSimulator in;
  void*& head = cond_var.slots().first_waiter;
  while (Fiber* const waiter = Dequeue(head)) {
    // One whose time has passed, and that has not run since, is no longer
    // waiting: the notification is another's.
    if (waiter->state != FiberState::kBlocked) continue;
    world_.scheduler().Wake(waiter);
    if (!all) return;
  }
}

}  // namespace reprise
