#include "sim/world/static_guard.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <utility>

#include "sim/world/arena.h"
#include "sim/world/interposition.h"
#include "sim/world/world.h"

#if defined(__SANITIZE_THREAD__)
#define REPRISE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define REPRISE_TSAN 1
#endif
#endif

namespace reprise {

thread_local constinit StaticScope::State StaticScope::state_;

void StaticScope::Begin() {
  if (state_.depth++ == 0) state_.arena = ExchangeActiveArena(nullptr);
}

void StaticScope::End() {
  if (--state_.depth == 0) {
    ExchangeActiveArena(std::exchange(state_.arena, nullptr));
  }
}

StaticScope::State StaticScope::Leave() {
  ExchangeActiveArena(state_.arena);
  return std::exchange(state_, State());
}

void StaticScope::Enter(const State& state) {
  state_ = state;
  ExchangeActiveArena(nullptr);
}

// ThreadSanitizer defines the symbols itself, and has neither an arena nor
// fibers.
#ifndef REPRISE_TSAN
namespace {

// libstdc++'s own, which the symbols below stand in front of. They are looked
// up at the first use, and a static object would need the guard itself.
template <typename Function>
class Real {
 public:
  explicit constexpr Real(const char* name) : name_(name) {}
  Function get() {
    Function function = function_.load(std::memory_order_relaxed);
    if (function == nullptr) {
      function = reinterpret_cast<Function>(dlsym(RTLD_NEXT, name_));
      function_.store(function, std::memory_order_relaxed);
    }
    return function;
  }

 private:
  const char* const name_;
  std::atomic<Function> function_{nullptr};
};

constinit Real<int (*)(abi::__guard*)> real_acquire("__cxa_guard_acquire");
constinit Real<void (*)(abi::__guard*)> real_release("__cxa_guard_release");
constinit Real<void (*)(abi::__guard*)> real_abort("__cxa_guard_abort");

World* WorldOfFiber() {
  World* const world = World::Current();
  return world != nullptr && world->scheduler().current() != nullptr ? world
                                                                     : nullptr;
}

// Only an initialiser that blocks lets another fiber meet its guard.
void BlockWhilePending(World& world, abi::__guard* guard) {
  Scheduler& scheduler = world.scheduler();
  while (world.pending_statics().Contains(guard)) {
    Fiber* const fiber = scheduler.current();
    Site& site = *world.decisions().SiteAt(fiber->node->label, "wait:static");
    fiber->wait_address = guard;
    scheduler.Block(site, {"waits for", "the initialiser of a static"},
                    Scheduler::kNever);
    fiber->wait_address = nullptr;
  }
}

void WakeThoseWaitingFor(World& world, const void* guard) {
  for (const auto& fiber : world.scheduler().fibers()) {
    if (fiber->wait_address == guard) world.scheduler().Wake(fiber.get());
  }
}

void EndInitialiser(abi::__guard* guard) {
  StaticScope::End();
  World* const world = WorldOfFiber();
  if (world == nullptr) return;
  world->pending_statics().Remove(guard);
  WakeThoseWaitingFor(*world, guard);
}

// Inside a world as well, libstdc++ waits for an initialiser of another OS
// thread in real time.
template <typename Function>
auto CallReal(Real<Function>& function, abi::__guard* guard) {
  const RealCalls real;
  return function.get()(guard);
}

}  // namespace

void PendingStatics::Add(void* guard, Fiber* maker) {
  if (size_ < kMost) pending_[size_++] = {guard, maker};
}

void PendingStatics::Remove(void* guard) {
  for (size_t i = 0; i < size_; ++i) {
    if (pending_[i].guard != guard) continue;
    pending_[i] = pending_[--size_];
    return;
  }
}

bool PendingStatics::Contains(void* guard) const {
  return std::any_of(
      pending_, pending_ + size_,
      [guard](const Pending& pending) { return pending.guard == guard; });
}

void PendingStatics::Release(const Node* of) {
  for (size_t i = size_; i-- > 0;) {
    const Pending pending = pending_[i];
    if (of != nullptr && pending.maker->node != of) continue;
    pending_[i] = pending_[--size_];
    CallReal(real_abort, static_cast<abi::__guard*>(pending.guard));
    if (of != nullptr) {
      WakeThoseWaitingFor(*pending.maker->world, pending.guard);
    }
  }
}
#else
void PendingStatics::Release(const Node* /*of*/) {}
#endif

}  // namespace reprise

#ifndef REPRISE_TSAN

namespace __cxxabiv1 {

extern "C" int __cxa_guard_acquire(__guard* guard) {
  reprise::World* const world = reprise::WorldOfFiber();
  if (world != nullptr) reprise::BlockWhilePending(*world, guard);
  const int is_ours = reprise::CallReal(reprise::real_acquire, guard);
  if (is_ours == 0) return 0;
  if (world != nullptr) {
    world->pending_statics().Add(guard, world->scheduler().current());
  }
  reprise::StaticScope::Begin();
  return is_ours;
}

extern "C" void __cxa_guard_release(__guard* guard) noexcept {
  reprise::CallReal(reprise::real_release, guard);
  reprise::EndInitialiser(guard);
}

extern "C" void __cxa_guard_abort(__guard* guard) noexcept {
  reprise::CallReal(reprise::real_abort, guard);
  reprise::EndInitialiser(guard);
}

}  // namespace __cxxabiv1

#endif
