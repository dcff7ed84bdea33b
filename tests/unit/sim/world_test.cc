#include "sim/world/world.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/runtime/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

TEST(WorldTest, NothingToDo) {
  TestWorld world;
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(world.now_ns(), 0);
}

TEST(WorldTest, TimeIsVirtualAndInOrder) {
  TestWorld world;
  std::vector<std::pair<std::string, int64_t>> log;
  for (const auto& [name, hours] :
       {std::pair("c", 3), std::pair("a", 1), std::pair("b", 2)}) {
    world.Start(0, name, [&, name = name, hours = hours] {
      log.emplace_back(name, world.now_ns());
      world.runtime().SleepUntil(world.After(absl::Hours(hours)));
      log.emplace_back(name, world.now_ns());
    });
  }
  EXPECT_EQ(world.Run(), Outcome::kTimeLimit) << "an hour is the default";
  EXPECT_THAT(
      log, ElementsAre(std::pair("c", 0), std::pair("a", 0), std::pair("b", 0),
                       std::pair("a", 3600 * kSecond)));
}

TEST(WorldTest, TimeStandsStillWhileSomebodyCanRun) {
  TestWorld world;
  std::vector<int64_t> times;
  world.Start(0, "sleeper", [&] {
    world.runtime().SleepUntil(world.After(absl::Nanoseconds(1)));
    times.push_back(world.now_ns());
  });
  world.Start(0, "busy", [&] {
    Mutex mutex(world.runtime(), "m");
    for (int i = 0; i < 1000; ++i) MutexLock lock(mutex);
    times.push_back(world.now_ns());
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_THAT(times, ElementsAre(0, 1));
}

TEST(WorldTest, SimultaneousEventsHaveAnOrderOfTheirOwn) {
  // The order in which they were made does not matter.
  for (const bool reverse : {false, true}) {
    TestWorld world;
    std::vector<int> order;
    const auto event = [&](int which) {
      switch (which) {
        case 0:
          return world->At(5, {1, 0}, [&] { order.push_back(0); });
        case 1:
          return world->At(5, {1, 1}, [&] { order.push_back(1); });
        case 2:
          return world->At(5, {2, 0}, [&] { order.push_back(2); });
        case 3:
          return world->At(4, {9, 9}, [&] { order.push_back(3); });
      }
    };
    for (int i = 0; i < 4; ++i) event(reverse ? 3 - i : i);
    EXPECT_EQ(world.Run(), Outcome::kFinished);
    EXPECT_THAT(order, ElementsAre(3, 0, 1, 2));
    EXPECT_EQ(world.now_ns(), 5);
  }
}

TEST(WorldTest, AnEventOfThePastComesAtOnce) {
  TestWorld world;
  std::vector<int64_t> times;
  world->At(10, {0, 0}, [&] {
    world->At(3, {0, 0}, [&] { times.push_back(world.now_ns()); });
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_THAT(times, ElementsAre(10));
}

TEST(WorldTest, StaleAlarmsDoNotMoveTheClock) {
  TestWorld world;
  world.Start(0, "main", [&] {
    Mutex mutex(world.runtime(), "m");
    CondVar cond(world.runtime(), "c");
    bool set = false;
    auto thread = world.runtime().StartThread("setter", [&] {
      world.runtime().SleepUntil(world.After(absl::Milliseconds(1)));
      MutexLock lock(mutex);
      set = true;
      cond.NotifyOne();
    });
    {
      MutexLock lock(mutex);
      const absl::Time deadline = world.After(absl::Minutes(50));
      while (!set) EXPECT_TRUE(cond.WaitUntil(mutex, deadline));
    }
    thread->Join();
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(world.now_ns(), kMillisecond);
}

TEST(WorldTest, TheTimeLimitEndsARun) {
  WorldOptions options = With(Policy::kCooperative);
  options.max_time_ns = kSecond;
  TestWorld world(options);
  int64_t rounds = 0;
  world.Start(0, "ticker", [&] {
    for (;;) {
      world.runtime().SleepUntil(world.After(absl::Milliseconds(100)));
      ++rounds;
    }
  });
  EXPECT_EQ(world.Run(), Outcome::kTimeLimit);
  EXPECT_EQ(rounds, 10);
  EXPECT_THAT(world->DescribeFibers(),
              ElementsAre(HasSubstr("w0/ticker sleeps")));
  // A breakpoint at `World::Fail` stops at every failure.
  EXPECT_EQ(world->failed_rule(), "time-limit");
  EXPECT_THAT(world->failed_detail(), HasSubstr("w0/ticker sleeps"));
}

// When all have ended, what is left to deliver is no matter of the time limit,
// and an event that needs somebody alive is dropped.
TEST(WorldTest, EventsAfterTheEnd) {
  WorldOptions options = With(Policy::kCooperative);
  options.max_time_ns = kSecond;
  TestWorld world(options);
  std::vector<std::string> happened;
  const auto happen = [&](const char* what) {
    return [&happened, what] { happened.push_back(what); };
  };
  world->AtIfRunning(kMillisecond, {1, 1}, happen("early"));
  world->AtIfRunning(5 * kSecond, {1, 2}, happen("late"));
  world->At(3 * kSecond, {1, 3}, happen("a frame"));
  world.Start(0, "main", [&] {
    world.runtime().SleepUntil(world.After(absl::Milliseconds(2)));
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_THAT(happened, ElementsAre("early", "a frame"));
  EXPECT_EQ(world.now_ns(), 3 * kSecond);
}

TEST(WorldTest, ARunWithoutProgressEnds) {
  WorldOptions options = With(Policy::kRandom);
  options.max_points = 10'000;
  options.schedule.stall_probability = 0;
  TestWorld world(options);
  for (const char* name : {"a", "b"}) {
    world.Start(0, name, [&] {
      Mutex mutex(world.runtime(), "m");
      for (;;) MutexLock lock(mutex);
    });
  }
  EXPECT_EQ(world.Run(), Outcome::kStopped);
  EXPECT_EQ(world->failed_rule(), "progress");
}

TEST(WorldTest, ADeadlockNamesFiberLockAndHolder) {
  TestWorld world;
  Mutex first(world.runtime(), "first");
  Mutex second(world.runtime(), "second");
  const auto take_both = [&](Mutex& one, Mutex& other) {
    MutexLock outer(one);
    world.runtime().SleepUntil(world.After(absl::Milliseconds(1)));
    MutexLock inner(other);
  };
  world.Start(0, "x", [&] { take_both(first, second); });
  world.Start(0, "y", [&] { take_both(second, first); });
  EXPECT_EQ(world.Run(), Outcome::kDeadlock);
  EXPECT_THAT(world->DescribeFibers(),
              ElementsAre("w0/x locks second, held by w0/y",
                          "w0/y locks first, held by w0/x"));
  EXPECT_EQ(world->failed_rule(), "deadlock");
  EXPECT_THAT(world->failed_detail(), HasSubstr("w0/x locks second"));
}

TEST(WorldTest, ADeadlockNamesWhatElseIsWaitedFor) {
  TestWorld world;
  Mutex mutex(world.runtime(), "m");
  CondVar never(world.runtime(), "never");
  world.Start(0, "main", [&] {
    auto thread = world.runtime().StartThread("waiter", [&] {
      MutexLock lock(mutex);
      for (;;) never.WaitUntil(mutex, absl::InfiniteFuture());
    });
    thread->Join();
  });
  world.Start(1, "sleeper",
              [&] { world.runtime(1).SleepUntil(absl::InfiniteFuture()); });
  world.Start(1, "done", [] {});
  EXPECT_EQ(world.Run(), Outcome::kDeadlock);
  EXPECT_THAT(
      world->DescribeFibers(),
      UnorderedElementsAre("w0/main joins w0/waiter", "w1/sleeper sleeps ",
                           "w0/waiter waits for never"));
}

TEST(WorldTest, FailStopsTheRunAndTheFirstCounts) {
  TestWorld world;
  bool went_on = false;
  world.Start(0, "main", [&] {
    world->Fail("rule", "detail");
    world->Fail("another", "x");
    world.runtime().SleepUntil(world.After(absl::Milliseconds(1)));
    went_on = true;
  });
  EXPECT_EQ(world.Run(), Outcome::kStopped);
  EXPECT_FALSE(went_on);
  EXPECT_EQ(world->failed_rule(), "rule");
  EXPECT_EQ(world->failed_detail(), "detail");
}

TEST(WorldTest, CrashOfTheOwnNodeNeverReturns) {
  for (const Policy policy : kPolicies) {
    TestWorld world(With(policy));
    bool returned = false;
    bool other_went_on = false;
    bool neighbour_ended = false;
    std::vector<int32_t> watched;
    world->OnCrash([&](Node& node) { watched.push_back(node.rank); });
    world.Start(0, "victim", [&] {
      world.runtime().SleepUntil(world.After(absl::Milliseconds(1)));
      world->Crash(world.node(0));
      returned = true;
    });
    world.Start(0, "other", [&] {
      world.runtime().SleepUntil(world.After(absl::Milliseconds(2)));
      other_went_on = true;
    });
    world.Start(1, "neighbour", [&] {
      world.runtime(1).SleepUntil(world.After(absl::Milliseconds(3)));
      neighbour_ended = true;
    });
    EXPECT_EQ(world.Run(), Outcome::kFinished);
    EXPECT_FALSE(returned);
    EXPECT_FALSE(other_went_on);
    EXPECT_TRUE(neighbour_ended);
    EXPECT_THAT(watched, ElementsAre(0));
    EXPECT_FALSE(world.node(0).alive);
    EXPECT_THAT(world->DescribeFibers(), IsEmpty());
  }
}

TEST(WorldTest, ACrashFromElsewhereAndARestart) {
  TestWorld world;
  std::vector<std::string> log;
  world.Start(1, "main", [&] {
    log.push_back(world.node(1).label);
    world.runtime(1).SleepUntil(absl::InfiniteFuture());
    log.push_back("resurrected");
  });
  world->At(kMillisecond, {0, 0}, [&] { world->Crash(world.node(1)); });
  world->At(2 * kMillisecond, {0, 0}, [&] {
    world->Crash(world.node(1));  // It is dead already.
    // No thread starts on a dead machine.
    world.Start(1, "ghost", [&] { log.push_back("ghost"); });
    world.Restart(1);
    world.Start(1, "main", [&] { log.push_back(world.node(1).label); });
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_THAT(log, ElementsAre("w1", "w1+1"));
  int crashes = 0;
  for (const Event& event : world->trace().events()) {
    crashes += event.kind == EventKind::kCrash ? 1 : 0;
  }
  EXPECT_EQ(crashes, 1);
}

TEST(WorldTest, ACrashOfReadyFibers) {
  // Fibers that could run, and one that is about to be woken.
  TestWorld world;
  int ran = 0;
  world.Start(0, "killer", [&] { world->Crash(world.node(1)); });
  for (int i = 0; i < 3; ++i) world.Start(1, "ready", [&] { ++ran; });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(ran, 0);
}

TEST(WorldTest, APausedNodeStandsStill) {
  for (const Policy policy : kPolicies) {
    TestWorld world(With(policy));
    std::vector<int64_t> ticks;
    world.Start(0, "ticker", [&] {
      for (int i = 0; i < 5; ++i) {
        world.runtime().SleepUntil(world.After(absl::Milliseconds(10)));
        ticks.push_back(world.now_ns() / kMillisecond);
      }
    });
    world->At(25 * kMillisecond, {0, 0}, [&] { world->Pause(world.node(0)); });
    world->At(100 * kMillisecond, {0, 0},
              [&] { world->Resume(world.node(0)); });
    EXPECT_EQ(world.Run(), Outcome::kFinished);
    if (policy == Policy::kCooperative) {
      EXPECT_THAT(ticks, ElementsAre(10, 20, 100, 110, 120));
    } else {
      // Stalls are added to the sleeps.
      ASSERT_EQ(ticks.size(), 5u);
      EXPECT_LT(ticks[1], 25);
      EXPECT_GE(ticks[2], 100);
    }
  }
}

TEST(WorldTest, ANodeThatPausesItselfGoesOnAfterwards) {
  TestWorld world;
  int64_t resumed_ns = 0;
  world->At(7 * kMillisecond, {0, 0}, [&] { world->Resume(world.node(0)); });
  world.Start(0, "main", [&] {
    world->Pause(world.node(0));
    resumed_ns = world.now_ns();
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(resumed_ns, 7 * kMillisecond);
}

TEST(WorldTest, ANodeThatIsPausedForEverIsADeadlock) {
  TestWorld world;
  world.Start(0, "main", [&] { world->Pause(world.node(0)); });
  EXPECT_EQ(world.Run(), Outcome::kDeadlock);
  EXPECT_THAT(world->DescribeFibers(), ElementsAre(HasSubstr("w0/main")));
}

TEST(WorldTest, ACrashOfAPausedNode) {
  TestWorld world;
  bool ran = false;
  world.Start(0, "main", [&] {
    world.runtime().SleepUntil(world.After(absl::Milliseconds(2)));
    ran = true;
  });
  world->At(kMillisecond, {0, 0}, [&] { world->Pause(world.node(0)); });
  world->At(3 * kMillisecond, {0, 0}, [&] { world->Crash(world.node(0)); });
  world->At(4 * kMillisecond, {0, 0}, [&] { world->Resume(world.node(0)); });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_FALSE(ran);
}

TEST(WorldTest, IoWorkRunsInOrderOnAThreadOfItsOwn) {
  TestWorld world;
  std::vector<int> order;
  world.Start(0, "main", [&] {
    for (int i = 0; i < 3; ++i) {
      world->PostIo(world.node(), [&, i] {
        order.push_back(i);
        EXPECT_EQ(world->scheduler().current()->label, "w0/io");
      });
    }
    EXPECT_THAT(order, IsEmpty());
  });
  // The transport thread keeps no world from its end.
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_THAT(order, ElementsAre(0, 1, 2));
}

TEST(WorldTest, TimesOfTheRuntimeSaturate) {
  EXPECT_EQ(World::ToNanoseconds(absl::InfiniteFuture()), Scheduler::kNever);
  EXPECT_LT(World::ToNanoseconds(absl::FromUnixSeconds(int64_t{1} << 40)),
            Scheduler::kNever);
  TestWorld world;
  EXPECT_EQ(World::ToNanoseconds(world->Now()), 0);
  // It is rounded up, so a wait is never too short.
  EXPECT_EQ(World::ToNanoseconds(world->Now() + absl::Nanoseconds(1) / 4), 1);
}

TEST(WorldTest, ThereIsACurrentWorldInARunOnly) {
  EXPECT_EQ(World::Current(), nullptr);
  TestWorld world;
  world.Start(0, "main", [&] { EXPECT_EQ(World::Current(), &*world); });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(World::Current(), nullptr);
}

TEST(WorldTest, FibersOfOneNameAreToldApart) {
  TestWorld world;
  EXPECT_EQ(world.Start(0, "x", [] {})->label, "w0/x");
  EXPECT_EQ(world.Start(0, "x", [] {})->label, "w0/x~1");
  EXPECT_EQ(world.Start(1, "x", [] {})->label, "w1/x");
  EXPECT_EQ(world.Run(), Outcome::kFinished);
}

TEST(WorldTest, StacksOfFibersThatEndedAreUsedAgain) {
  TestWorld world;
  std::set<void*> stacks;
  int ended = 0;
  world.Start(0, "main", [&] {
    for (int i = 0; i < 1000; ++i) {
      auto thread = world.runtime().StartThread("t", [&] {
        stacks.insert(__builtin_frame_address(0));
        ++ended;
      });
      thread->Join();
    }
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(ended, 1000);
  EXPECT_LE(stacks.size(), 3u);
}

TEST(WorldTest, ThousandsOfFibersAtOnce) {
  TestWorld world;
  int ended = 0;
  for (int i = 0; i < 5000; ++i) {
    world.Start(i % 10, "t", [&, i] {
      world.runtime(i % 10).SleepUntil(world.After(absl::Milliseconds(i)));
      ++ended;
    });
  }
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(ended, 5000);
}

}  // namespace
}  // namespace reprise
