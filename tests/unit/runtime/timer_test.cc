#include "agent/runtime/timer.h"

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "gtest/gtest.h"
#include "tests/unit/runtime/latch.h"
#include "tests/unit/runtime/manual_runtime.h"
#include "tests/unit/runtime/scarce_runtime.h"

namespace reprise {
namespace {

absl::Time At(int seconds) { return absl::FromUnixSeconds(seconds); }

TEST(TimerTest, RunsInOrderOfTimeThenOfScheduling) {
  ManualRuntime runtime;
  Timer timer(runtime, "timer");
  std::vector<int> order;
  Latch done;
  for (const auto& [seconds, id] : std::vector<std::pair<int, int>>{
           {3, 5}, {1, 1}, {2, 3}, {1, 2}, {2, 4}}) {
    timer.Schedule(At(seconds), [&order, id = id] { order.push_back(id); });
  }
  timer.Schedule(At(4), [&] { done.Open(); });
  EXPECT_EQ(timer.size(), 6);
  runtime.AdvanceTo(At(4));
  done.Wait();
  timer.Stop();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 4, 5}));
}

TEST(TimerTest, WaitsForItsTime) {
  ManualRuntime runtime;
  Timer timer(runtime, "timer");
  Latch ran;
  std::atomic<bool> early{true};
  timer.Schedule(At(10), [&] {
    EXPECT_FALSE(early);
    ran.Open();
  });
  runtime.AwaitWaits(1);
  runtime.AdvanceTo(At(10) - absl::Nanoseconds(1));
  runtime.AwaitWaits(2);  // it looked at the clock and sleeps on
  EXPECT_EQ(timer.size(), 1);
  early = false;
  runtime.AdvanceTo(At(10));
  ran.Wait();
  EXPECT_EQ(timer.size(), 0);
  timer.Stop();
}

TEST(TimerTest, IsNeverEarlyByTheRealClock) {
  Runtime& runtime = RealRuntime();
  Timer timer(runtime, "timer");
  constexpr int kTimers = 200;
  std::atomic<int> left{kTimers};
  Latch done;
  for (int i = 0; i < kTimers; ++i) {
    const absl::Time when =
        runtime.Now() + absl::Nanoseconds(37.25) * ((i * 7919) % 100'000);
    timer.Schedule(when, [&, when] {
      EXPECT_GE(runtime.Now(), when);
      if (--left == 0) done.Open();
    });
  }
  done.Wait();
  timer.Stop();
}

TEST(TimerTest, OnlyAnEarlierTimeWakesTheThread) {
  ManualRuntime runtime;
  Timer timer(runtime, "timer");
  timer.Schedule(At(10), [] {});
  runtime.AwaitWaits(1);  // it sleeps until 10
  EXPECT_EQ(runtime.notifications(), 0);
  timer.Schedule(At(10), [] {});
  timer.Schedule(At(11), [] {});
  timer.Cancel(timer.Schedule(At(20), [] {}));
  EXPECT_EQ(runtime.notifications(), 0);
  Latch ran;
  timer.Schedule(At(9), [&] { ran.Open(); });
  EXPECT_EQ(runtime.notifications(), 1);
  runtime.AdvanceTo(At(9));
  ran.Wait();
  timer.Stop();
}

TEST(TimerTest, WakesForAnEarlierTimeWhenIdle) {
  Runtime& runtime = RealRuntime();
  Timer timer(runtime, "timer");
  timer.Schedule(runtime.Now() + absl::Hours(1), [] { FAIL(); });
  for (int i = 0; i < 200; ++i) {
    Latch ran;
    timer.Schedule(runtime.Now(), [&] { ran.Open(); });
    ran.Wait();
  }
  timer.Stop();
}

TEST(TimerTest, CancelledCallbacksNeitherRunNorStay) {
  ManualRuntime runtime;
  Timer timer(runtime, "timer");
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  const Timer::Key key =
      timer.Schedule(At(1), [held = std::move(held)] { FAIL(); });
  EXPECT_TRUE(timer.Cancel(key));
  EXPECT_TRUE(watch.expired());
  EXPECT_FALSE(timer.Cancel(key));
  EXPECT_EQ(timer.size(), 0);
  Latch later;
  const Timer::Key ran = timer.Schedule(At(2), [&] { later.Open(); });
  runtime.AdvanceTo(At(2));
  later.Wait();
  EXPECT_FALSE(timer.Cancel(ran));
  timer.Stop();
}

TEST(TimerTest, ARunningCallbackCannotBeCancelled) {
  Runtime& runtime = RealRuntime();
  Timer timer(runtime, "timer");
  Latch running;
  Latch go;
  const Timer::Key key = timer.Schedule(runtime.Now(), [&] {
    running.Open();
    go.Wait();
  });
  running.Wait();
  EXPECT_FALSE(timer.Cancel(key));
  EXPECT_EQ(timer.size(), 0);
  go.Open();
  timer.Stop();
}

// No lock is held while a callback runs or is destroyed.
TEST(TimerTest, CallbacksMayUseTheTimer) {
  Runtime& runtime = RealRuntime();
  Timer timer(runtime, "timer");
  Latch done;
  const Timer::Key other =
      timer.Schedule(runtime.Now() + absl::Hours(1), [] { FAIL(); });
  timer.Schedule(runtime.Now(), [&] {
    EXPECT_TRUE(timer.Cancel(other));
    timer.Schedule(runtime.Now(), [&] { done.Open(); });
  });
  done.Wait();
  Latch destroyed;
  std::shared_ptr<int> uses_timer(new int, [&](int* pointer) {
    delete pointer;
    timer.size();
    destroyed.Open();
  });
  timer.Cancel(timer.Schedule(runtime.Now() + absl::Hours(1),
                              [held = std::move(uses_timer)] {}));
  destroyed.Wait();
  timer.Stop();
}

TEST(TimerTest, InfiniteFutureNeverRuns) {
  ManualRuntime runtime;
  Timer timer(runtime, "timer");
  const Timer::Key key = timer.Schedule(absl::InfiniteFuture(), [] { FAIL(); });
  EXPECT_EQ(timer.size(), 0);
  EXPECT_FALSE(timer.Cancel(key));
  timer.Stop();
}

TEST(TimerTest, StopDropsWhatIsScheduledAndStartsNothingNew) {
  ManualRuntime runtime;
  Timer timer(runtime, "timer");
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  timer.Schedule(At(5), [held = std::move(held)] { FAIL(); });
  timer.Stop();
  timer.Stop();
  EXPECT_TRUE(watch.expired());
  EXPECT_EQ(timer.size(), 0);
  const Timer::Key key = timer.Schedule(At(0), [] { FAIL(); });
  EXPECT_FALSE(timer.Cancel(key));
  EXPECT_EQ(timer.size(), 0);
  EXPECT_EQ(runtime.threads_started(), 1);
}

TEST(TimerTest, UnusedTimerStartsNoThread) {
  ManualRuntime runtime;
  Timer timer(runtime, "timer");
  timer.Stop();
  EXPECT_EQ(runtime.threads_started(), 0);
}

TEST(TimerTest, StopWaitsForARunningCallback) {
  Runtime& runtime = RealRuntime();
  Timer timer(runtime, "timer");
  Latch running;
  bool finished = false;
  timer.Schedule(runtime.Now(), [&] {
    running.Open();
    // Ends when `Stop` has begun, which refuses what is scheduled.
    while (timer.Cancel(
        timer.Schedule(runtime.Now() + absl::Hours(1), [] { FAIL(); }))) {
    }
    finished = true;
  });
  running.Wait();
  timer.Stop();
  EXPECT_TRUE(finished);
}

// A wake-up lost between the thread's look at `stopping` and its wait would
// hang one of these.
TEST(TimerTest, StopAlwaysWakesTheThread) {
  Runtime& runtime = RealRuntime();
  for (int i = 0; i < 300; ++i) {
    Timer timer(runtime, "timer");
    timer.Schedule(runtime.Now() + absl::Hours(1), [] { FAIL(); });
    timer.Stop();
  }
  // This timer's thread surely sleeps.
  ManualRuntime asleep;
  Timer timer(asleep, "timer");
  timer.Schedule(At(10), [] { FAIL(); });
  asleep.AwaitWaits(1);
  timer.Stop();
}

TEST(TimerTest, ScheduleAndCancelFromManyThreads) {
  Runtime& runtime = RealRuntime();
  Timer timer(runtime, "timer");
  std::atomic<int> ran{0};
  std::atomic<int> cancelled{0};
  constexpr int kThreads = 3;
  constexpr int kEach = 2000;
  std::vector<std::unique_ptr<Thread>> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.push_back(runtime.StartThread("scheduler", [&] {
      for (int i = 0; i < kEach; ++i) {
        const Timer::Key key = timer.Schedule(
            runtime.Now() + absl::Microseconds(i % 20), [&] { ++ran; });
        if (i % 2 == 0 && timer.Cancel(key)) ++cancelled;
      }
    }));
  }
  for (const auto& thread : threads) thread->Join();
  Latch drained;
  timer.Schedule(runtime.Now() + absl::Milliseconds(1), [&] {
    drained.Open();  // everything scheduled was due before this
  });
  drained.Wait();
  EXPECT_EQ(ran + cancelled, kThreads * kEach);
  EXPECT_EQ(timer.size(), 0);
  timer.Stop();
}

TEST(TimerTest, LacksAThread) {
  ScarceRuntime runtime(0);
  Timer timer(runtime, "timer");
  EXPECT_TRUE(absl::IsResourceExhausted(timer.Start()));
  Latch first, second;
  timer.Schedule(runtime.Now(), [&] { first.Open(); });
  EXPECT_EQ(runtime.refused(), 2);
  runtime.Allow(1);
  timer.Schedule(runtime.Now(), [&] { second.Open(); });
  first.Wait();
  second.Wait();
  EXPECT_TRUE(timer.Start().ok());
  timer.Stop();
}

}  // namespace
}  // namespace reprise
