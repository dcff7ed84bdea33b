#include "sim/world/static_guard.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <utility>

#include "sim/world/arena.h"
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

// The guards whose initialisers run on this OS thread. Those of other OS
// threads are waited for by libstdc++: their end wakes no fiber of ours.
class PendingGuards {
 public:
  void Add(abi::__guard* guard) {
    if (size_ < kMost) guards_[size_++] = guard;
  }
  void Remove(abi::__guard* guard) {
    const auto found = std::find(guards_, guards_ + size_, guard);
    if (found != guards_ + size_) *found = guards_[--size_];
  }
  bool Contains(abi::__guard* guard) const {
    return std::find(guards_, guards_ + size_, guard) != guards_ + size_;
  }

 private:
  static constexpr size_t kMost = 64;
  abi::__guard* guards_[kMost] = {};
  size_t size_ = 0;
};

thread_local constinit PendingGuards t_pending;

// Only an initialiser that blocks lets another fiber meet its guard.
void BlockWhilePending(World& world, abi::__guard* guard) {
  Scheduler& scheduler = world.scheduler();
  while (t_pending.Contains(guard)) {
    Fiber* const fiber = scheduler.current();
    Site& site = *world.decisions().SiteAt(fiber->node->label, "wait:static");
    fiber->wait_address = guard;
    scheduler.Block(site, {"waits for", "the initialiser of a static"},
                    Scheduler::kNever);
    fiber->wait_address = nullptr;
  }
}

void WakeThoseWaitingFor(abi::__guard* guard) {
  World* const world = World::Current();
  if (world == nullptr) return;
  for (const auto& fiber : world->scheduler().fibers()) {
    if (fiber->wait_address == guard) world->scheduler().Wake(fiber.get());
  }
}

}  // namespace
#endif

}  // namespace reprise

#ifndef REPRISE_TSAN

namespace __cxxabiv1 {

extern "C" int __cxa_guard_acquire(__guard* guard) {
  if (reprise::World* const world = reprise::WorldOfFiber()) {
    reprise::BlockWhilePending(*world, guard);
  }
  const int is_ours = reprise::real_acquire.get()(guard);
  if (is_ours != 0) {
    reprise::t_pending.Add(guard);
    reprise::StaticScope::Begin();
  }
  return is_ours;
}

extern "C" void __cxa_guard_release(__guard* guard) noexcept {
  reprise::StaticScope::End();
  reprise::t_pending.Remove(guard);
  reprise::real_release.get()(guard);
  reprise::WakeThoseWaitingFor(guard);
}

extern "C" void __cxa_guard_abort(__guard* guard) noexcept {
  reprise::StaticScope::End();
  reprise::t_pending.Remove(guard);
  reprise::real_abort.get()(guard);
  reprise::WakeThoseWaitingFor(guard);
}

}  // namespace __cxxabiv1

#endif
