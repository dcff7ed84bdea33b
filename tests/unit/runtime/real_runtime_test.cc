#include <pthread.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

TEST(RealRuntimeTest, NowStartsAtTheWallClockAndNeverGoesBack) {
  Runtime& runtime = RealRuntime();
  absl::Time last = runtime.Now();
  EXPECT_LT(absl::AbsDuration(last - absl::Now()), absl::Hours(1));
  for (int i = 0; i < 100'000; ++i) {
    const absl::Time now = runtime.Now();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(RealRuntimeTest, SleepUntilIsNeverShort) {
  Runtime& runtime = RealRuntime();
  runtime.SleepUntil(absl::InfinitePast());
  for (int i = 0; i < 20; ++i) {
    const absl::Time deadline = runtime.Now() + absl::Nanoseconds(100'000.25);
    runtime.SleepUntil(deadline);
    EXPECT_GE(runtime.Now(), deadline);
  }
}

TEST(RealRuntimeTest, WaitReturnsFalseNotBeforeItsDeadline) {
  Runtime& runtime = RealRuntime();
  Mutex mutex(runtime, "mutex");
  CondVar cond_var(runtime, "cond_var");
  MutexLock lock(mutex);
  for (int i = 0; i < 20; ++i) {
    const absl::Time deadline = runtime.Now() + absl::Nanoseconds(100'000.25);
    while (cond_var.WaitUntil(mutex, deadline)) {
    }
    EXPECT_GE(runtime.Now(), deadline);
  }
}

TEST(RealRuntimeTest, WaitWithADeadlineInThePastTimesOut) {
  Runtime& runtime = RealRuntime();
  Mutex mutex(runtime, "mutex");
  CondVar cond_var(runtime, "cond_var");
  MutexLock lock(mutex);
  for (const absl::Time deadline :
       {absl::InfinitePast(), absl::UnixEpoch(), runtime.Now()}) {
    while (cond_var.WaitUntil(mutex, deadline)) {
    }
  }
}

TEST(RealRuntimeTest, FarDeadlinesWaitForTheNotification) {
  Runtime& runtime = RealRuntime();
  for (const absl::Time deadline :
       {absl::InfiniteFuture(), absl::InfiniteFuture() - absl::Seconds(1),
        absl::FromUnixSeconds(int64_t{1} << 60),
        runtime.Now() + absl::Hours(24 * 365 * 250)}) {
    Mutex mutex(runtime, "mutex");
    CondVar cond_var(runtime, "cond_var");
    bool waiting = false;
    bool notified = false;
    bool timed_out = false;
    std::unique_ptr<Thread> thread = runtime.StartThread("waiter", [&] {
      MutexLock lock(mutex);
      waiting = true;
      cond_var.NotifyAll();
      while (!notified && !timed_out) {
        timed_out = !cond_var.WaitUntil(mutex, deadline);
      }
    });
    {
      MutexLock lock(mutex);
      while (!waiting) cond_var.WaitUntil(mutex, absl::InfiniteFuture());
      // In this time, a deadline that was taken for a past one would pass.
      runtime.SleepUntil(runtime.Now() + absl::Milliseconds(2));
      notified = true;
      cond_var.NotifyOne();
    }
    thread->Join();
    EXPECT_FALSE(timed_out) << deadline;
  }
}

TEST(RealRuntimeTest, MutexExcludes) {
  Runtime& runtime = RealRuntime();
  Mutex mutex(runtime, "mutex");
  int count = 0;
  std::vector<std::unique_ptr<Thread>> threads;
  for (int i = 0; i < 4; ++i) {
    threads.push_back(runtime.StartThread("counter", [&] {
      for (int j = 0; j < 20'000; ++j) {
        MutexLock lock(mutex);
        ++count;
      }
    }));
  }
  for (const auto& thread : threads) thread->Join();
  EXPECT_EQ(count, 80'000);
}

// Hands a turn round a ring of threads: each notification must wake someone.
TEST(RealRuntimeTest, NotificationsAreNotLost) {
  constexpr int kThreads = 3;
  constexpr int kTurns = 300;
  Runtime& runtime = RealRuntime();
  for (const bool use_notify_all : {false, true}) {
    Mutex mutex(runtime, "mutex");
    std::vector<std::unique_ptr<CondVar>> cond_vars;
    for (int i = 0; i < kThreads; ++i) {
      cond_vars.push_back(std::make_unique<CondVar>(runtime, "cond_var"));
    }
    int turn = 0;
    std::vector<std::unique_ptr<Thread>> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.push_back(runtime.StartThread("turn", [&, i] {
        MutexLock lock(mutex);
        while (turn < kTurns) {
          if (turn % kThreads == i) {
            ++turn;
            // Everyone must see the last turn.
            CondVar& next = *cond_vars[(i + 1) % kThreads];
            use_notify_all ? next.NotifyAll() : next.NotifyOne();
          } else {
            cond_vars[i]->WaitUntil(mutex, absl::InfiniteFuture());
          }
        }
        for (const auto& cond_var : cond_vars) cond_var->NotifyAll();
      }));
    }
    for (const auto& thread : threads) thread->Join();
    EXPECT_EQ(turn, kTurns);
  }
}

TEST(RealRuntimeTest, ThreadsAreNamedAndLongNamesAreCut) {
  std::string seen;
  const auto name_of_self = [&seen] {
    char name[16];
    pthread_getname_np(pthread_self(), name, sizeof(name));
    seen = name;
  };
  RealRuntime().StartThread("short", name_of_self)->Join();
  EXPECT_EQ(seen, "short");
  RealRuntime().StartThread("0123456789abcdefgh", name_of_self)->Join();
  EXPECT_EQ(seen, "0123456789abcde");
}

TEST(RealRuntimeTest, JoinReturnsAfterTheBodyIsDestroyed) {
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  std::unique_ptr<Thread> thread =
      RealRuntime().StartThread("holder", [held = std::move(held)] {});
  thread->Join();
  EXPECT_TRUE(watch.expired());
}

TEST(RealRuntimeDeathTest, AThreadMustBeJoined) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_DEATH(RealRuntime().StartThread("forgotten", [] {}),
               "destroyed before its Join");
}

}  // namespace
}  // namespace reprise
