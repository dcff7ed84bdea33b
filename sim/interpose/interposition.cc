// The begin and end of runs and of fibers, and crashes.

#include "sim/world/interposition.h"

#include <climits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/interpose/debug_information.h"
#include "sim/interpose/interposed_world.h"
#include "sim/interpose/keys.h"
#include "sim/interpose/rwlocks.h"
#include "sim/interpose/state.h"
#include "sim/world/race_annotations.h"

namespace reprise::interpose {
namespace {

void RunBegins(World& world) {
  const OutsideWorld outside;
  world.interposed = new InterposedWorld();
  TakeRunNumber(*world.interposed);
}

// Mutexes whose owner is dead are free, and those that wait for them find out.
void WakeHeirs(World& world) {
  for (const auto& fiber : world.scheduler().fibers()) {
    InterposedThread* const thread = fiber->interposed;
    if (thread == nullptr || fiber->state != FiberState::kDead) continue;
    for (void* rwlock : std::exchange(thread->held_rwlocks, {})) {
      ReleaseRwLock(rwlock);
      WakeAt(world, rwlock, INT_MAX);
    }
  }
  for (const auto& fiber : world.scheduler().fibers()) {
    if (fiber->state != FiberState::kBlocked ||
        fiber->wait_address == nullptr || fiber->waiting.holder == nullptr) {
      continue;
    }
    const auto* const holder =
        static_cast<const Fiber*>(*fiber->waiting.holder);
    if (holder != nullptr && holder->state == FiberState::kDead) {
      world.scheduler().Wake(fiber.get());
    }
  }
}

void NodeCrashed(Node& node) {
  World& world = *node.world;
  if (world.interposed == nullptr) return;
  const OutsideWorld outside;
  WakeHeirs(world);
}

// A process ends with its main thread, and its detached threads with it.
void EndDetached(World& world, Fiber& main) {
  bool killed = false;
  for (Fiber* fiber : main.node->fibers) {
    if (fiber->interposed == nullptr || !fiber->interposed->detached ||
        fiber->state == FiberState::kDone ||
        fiber->state == FiberState::kDead) {
      continue;
    }
    world.scheduler().Kill(*fiber);
    killed = true;
  }
  if (!killed) return;
  world.AbandonFibers();
  WakeHeirs(world);
}

void FiberEnds(Fiber& fiber) {
  World& world = *fiber.world;
  if (world.interposed == nullptr) return;
  if (fiber.interposed != nullptr) {
    {
      const OutOfSimulator out_of_simulator;
      RunKeyDestructors(*fiber.interposed);
    }
    if (fiber.interposed->is_thread) AnnounceRelease(&fiber);
  }
  if (world.interposed->has_detached &&
      fiber.label == absl::StrCat(fiber.node->label, "/main")) {
    EndDetached(world, fiber);
  }
}

void RunEnds(World& world) {
  const bool finished =
      world.failed_rule().empty() && world.scheduler().num_unfinished() == 0;
  for (const auto& fiber : world.scheduler().fibers()) {
    InterposedThread* const thread = fiber->interposed;
    if (thread == nullptr) continue;
    if (finished && thread->is_thread && !thread->joined && !thread->detached &&
        fiber->state == FiberState::kDone && fiber->node->alive) {
      world.Fail("leak", absl::StrCat(fiber->label,
                                      " was neither joined nor detached"));
    }
    for (void* rwlock : thread->held_rwlocks) ReleaseRwLock(rwlock);
    const OutsideWorld outside;
    delete std::exchange(fiber->interposed, nullptr);
  }
  const OutsideWorld outside;
  ReturnRunNumber(*world.interposed);
  delete std::exchange(world.interposed, nullptr);
}

constexpr Interposition kInterposition = {.prepare_child = &PrepareChild,
                                          .run_begins = &RunBegins,
                                          .run_ends = &RunEnds,
                                          .fiber_ends = &FiberEnds,
                                          .node_crashed = &NodeCrashed};
[[maybe_unused]] const bool registered =
    (interposition = &kInterposition, true);

}  // namespace
}  // namespace reprise::interpose
