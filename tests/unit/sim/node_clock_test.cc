#include "sim/world/node_clock.h"

#include <vector>

#include "agent/runtime/mutex.h"
#include "gtest/gtest.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {
namespace {

TEST(NodeClockTest, ATrueClockIsTheWorlds) {
  const NodeClock clock;
  EXPECT_TRUE(clock.is_true());
  for (const int64_t ns : {int64_t{0}, int64_t{1}, kSecond, -kSecond}) {
    EXPECT_EQ(clock.Steady(ns), ns);
    EXPECT_EQ(clock.WorldAt(ns), ns);
  }
  EXPECT_EQ(clock.WorldAt(Scheduler::kNever), Scheduler::kNever);
}

TEST(NodeClockTest, AClockThatDriftsGainsOrLosesInEachSecond) {
  for (const int64_t gain_ns :
       {int64_t{1}, 100 * kMillisecond, -100 * kMillisecond, 1 - kSecond}) {
    NodeClock clock;
    clock.Drift(gain_ns);
    EXPECT_EQ(clock.Steady(kSecond), kSecond) << "not before the next start";
    clock.Start(0);
    EXPECT_EQ(clock.Steady(10 * kSecond), 10 * (kSecond + gain_ns));
    for (int64_t steady_ns = 0; steady_ns < kSecond;
         steady_ns += 7'777 * kMicrosecond) {
      const int64_t world_ns = clock.WorldAt(steady_ns);
      EXPECT_GE(clock.Steady(world_ns), steady_ns);
      EXPECT_LT(clock.Steady(world_ns - 1), steady_ns);
    }
    EXPECT_EQ(clock.WorldAt(Scheduler::kNever), Scheduler::kNever);
    if (gain_ns < 0) {
      EXPECT_EQ(clock.WorldAt(Scheduler::kNever - 1), Scheduler::kNever - 1);
    }
  }
}

TEST(NodeClockTest, TheSteadyClockGoesOnWhenTheRateChanges) {
  NodeClock clock;
  clock.Drift(500 * kMillisecond);
  clock.Start(0);
  clock.Drift(0);
  clock.Start(2 * kSecond);
  EXPECT_EQ(clock.Steady(2 * kSecond), 3 * kSecond);
  EXPECT_EQ(clock.Steady(4 * kSecond), 5 * kSecond);
  EXPECT_EQ(clock.WorldAt(5 * kSecond), 4 * kSecond);
}

// So that a jump counts as a fault that struck only where somebody sees it.
TEST(NodeClockTest, AJumpIsSeenByWhoeverReadsTheWallClock) {
  NodeClock clock;
  clock.Jump(kSecond);
  int seen = 0;
  clock.on_jump_seen = [&] { ++seen; };
  EXPECT_EQ(clock.Steady(0), 0);
  EXPECT_EQ(clock.offset_ns(), kSecond);
  EXPECT_EQ(seen, 0);
  EXPECT_EQ(clock.ReadOffset(), kSecond);
  EXPECT_EQ(clock.ReadOffset(), kSecond);
  EXPECT_EQ(seen, 1);
  clock.on_jump_seen = [&] { ++seen; };
  clock.Start(kSecond);
  EXPECT_EQ(clock.ReadOffset(), kSecond);
  EXPECT_EQ(seen, 1) << "the start has seen it";
}

TEST(NodeClockTest, AClockDoesNotRunBackwards) {
  NodeClock clock;
  EXPECT_DEATH(clock.Drift(-kSecond), "does not stand still or run backwards");
}

TEST(NodeClockTest, ANodeStartsAtItsWallClockAndGoesOnWithItsSteadyClock) {
  TestWorld world;
  world->clock(0).Jump(-3600 * kSecond);
  const absl::Time true_time = world->Now();
  world.Start(0, "main", [&] {
    EXPECT_EQ(world.runtime().Now(), true_time - absl::Hours(1));
    world->clock(0).Jump(7200 * kSecond);
    EXPECT_EQ(world.runtime().Now(), true_time - absl::Hours(1));
    world.runtime().SleepUntil(world.runtime().Now() + absl::Seconds(1));
    EXPECT_EQ(world.now_ns(), kSecond);
    world->Crash(world.node(0));
  });
  world->At(2 * kSecond, {0, 0}, [&] {
    world.Restart(0);
    world.Start(0, "main", [&] {
      EXPECT_EQ(world.runtime().Now(),
                true_time + absl::Hours(1) + absl::Seconds(2));
    });
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
}

// Waits end when the node's own clock says so.
TEST(NodeClockTest, WaitsAreByTheNodesClock) {
  TestWorld world;
  world->clock(1).Drift(500 * kMillisecond);
  std::vector<int64_t> ends;
  for (const int32_t rank : {0, 1}) {
    world.Start(rank, "main", [&, rank] {
      Runtime& runtime = world.runtime(rank);
      Mutex mutex(runtime, "mutex");
      CondVar changed(runtime, "changed");
      const absl::Time deadline = runtime.Now() + absl::Seconds(3);
      {
        MutexLock lock(mutex);
        while (changed.WaitUntil(mutex, deadline)) {
        }
      }
      EXPECT_EQ(runtime.Now(), deadline);
      ends.push_back(world.now_ns());
    });
  }
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(ends, (std::vector<int64_t>{2 * kSecond, 3 * kSecond}));
}

// Each step of a slow node takes its time; those of others do not.
TEST(NodeClockTest, ASlowNodeTakesItsTimeForEachStep) {
  for (const int64_t step_ns : {int64_t{0}, kMillisecond}) {
    TestWorld world;
    int64_t slow_steps = 0;
    Node& node = world.node(1);
    node.slow_until_ns = step_ns == 0 ? 0 : 50 * kMillisecond;
    node.slow_step_ns = step_ns;
    node.on_slow_step = [&] { ++slow_steps; };
    std::vector<int64_t> took_ns(2);
    for (const int32_t rank : {0, 1}) {
      world.Start(rank, "main", [&, rank] {
        Mutex mutex(world.runtime(rank), "mutex");
        const int64_t before_ns = world.now_ns();
        for (int i = 0; i < 100; ++i) MutexLock lock(mutex);
        took_ns[static_cast<size_t>(rank)] = world.now_ns() - before_ns;
      });
    }
    EXPECT_EQ(world.Run(), Outcome::kFinished);
    EXPECT_EQ(took_ns[0], 0);
    // It is over after 50 steps.
    EXPECT_EQ(took_ns[1], step_ns == 0 ? 0 : 50 * kMillisecond);
    EXPECT_EQ(slow_steps, step_ns == 0 ? 0 : 50);
  }
}

}  // namespace
}  // namespace reprise
