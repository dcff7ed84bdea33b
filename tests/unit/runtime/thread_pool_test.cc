#include "agent/runtime/thread_pool.h"

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/runtime/runtime.h"
#include "gtest/gtest.h"
#include "tests/unit/runtime/latch.h"
#include "tests/unit/runtime/manual_runtime.h"
#include "tests/unit/runtime/scarce_runtime.h"

namespace reprise {
namespace {

TEST(ThreadPoolTest, RunsEveryTaskOnceBeforeStopReturns) {
  ThreadPool pool(RealRuntime(), "pool", 3);
  constexpr int kTasks = 2000;
  std::vector<std::atomic<int>> runs(kTasks);
  for (int i = 0; i < kTasks; ++i) {
    EXPECT_TRUE(pool.Run([&runs, i] { ++runs[i]; }));
  }
  pool.Stop();
  for (int i = 0; i < kTasks; ++i) EXPECT_EQ(runs[i], 1) << i;
  EXPECT_EQ(pool.queue_length(), 0);
}

TEST(ThreadPoolTest, OneThreadRunsInOrder) {
  ThreadPool pool(RealRuntime(), "pool", 1);
  std::vector<int> order;
  for (int i = 0; i < 100; ++i) pool.Run([&order, i] { order.push_back(i); });
  pool.Stop();
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[i], i);
}

TEST(ThreadPoolTest, UnusedPoolStartsNoThread) {
  ManualRuntime runtime;
  ThreadPool pool(runtime, "pool", 16);
  EXPECT_EQ(pool.num_idle_threads(), 16);
  EXPECT_EQ(pool.max_threads(), 16);
  pool.Stop();
  EXPECT_EQ(runtime.threads_started(), 0);
}

TEST(ThreadPoolTest, StartsAThreadOnlyWhenNoneIsIdle) {
  ManualRuntime runtime;
  ThreadPool pool(runtime, "pool", 2);
  for (int i = 1; i <= 5; ++i) {
    pool.Run([] {});
    runtime.AwaitWaits(i);  // the thread has done it and is idle again
    EXPECT_EQ(runtime.threads_started(), 1) << i;
  }
  Latch both, go;
  std::atomic<int> here{0};
  for (int i = 0; i < 5; ++i) {
    pool.Run([&] {
      if (++here == 2) both.Open();
      go.Wait();
    });
  }
  both.Wait();
  EXPECT_EQ(runtime.threads_started(), 2);
  go.Open();
  pool.Stop();
}

// The thread that is called is not woken before the caller's locks are
// released, and one is enough for several tasks.
TEST(ThreadPoolTest, AWakeupCallsOneThreadAndTheThreadsCallEachOther) {
  constexpr int kThreads = 4;
  ManualRuntime runtime;
  ThreadPool pool(runtime, "pool", kThreads);
  Latch all_started, may_end;
  std::atomic<int> started{0};
  for (int i = 0; i < kThreads; ++i) {
    pool.Run([&] {
      if (++started == kThreads) all_started.Open();
      may_end.Wait();
    });
  }
  all_started.Wait();
  may_end.Open();
  runtime.AwaitWaits(kThreads);  // all are idle
  const int before = runtime.notifications();
  std::atomic<int> runs{0};
  Latch all_run;
  {
    ThreadPool::Wakeup wakeup;
    for (int i = 0; i < kThreads; ++i) {
      pool.Run(
          [&] {
            // Each needs a thread of its own.
            if (++runs == kThreads) all_run.Open();
            all_run.Wait();
          },
          wakeup);
    }
    EXPECT_EQ(runtime.notifications(), before);
    EXPECT_EQ(runs, 0);
    EXPECT_EQ(pool.queue_length(), kThreads);
  }
  all_run.Wait();
  EXPECT_EQ(runtime.notifications(), before + kThreads);
  pool.Stop();
}

TEST(ThreadPoolTest, WaitsAwakeOnlyWhereTasksComeWhileOthersRun) {
  ManualRuntime runtime;
  ThreadPool pool(runtime, "pool", 1);
  int waits = 0;
  for (int i = 0; i < 20; ++i) {
    pool.Run([] {});
    runtime.AwaitWaits(++waits);
  }
  EXPECT_EQ(runtime.yields(), 0);
  Latch runs, may_end;
  pool.Run([&] {
    runs.Open();
    may_end.Wait();
  });
  runs.Wait();
  pool.Run([] {});
  may_end.Open();
  runtime.AwaitWaits(++waits);
  EXPECT_EQ(runtime.yields(), 3);  // in vain
  for (int i = 0; i < 20; ++i) {
    pool.Run([] {});
    runtime.AwaitWaits(++waits);
  }
  EXPECT_EQ(runtime.yields(), 8 * 3);  // not for ever
  pool.Stop();
}

// Tasks come from two threads in bursts that are as short as the moment in
// which a thread of the pool falls asleep. One that nobody is called for would
// never run.
TEST(ThreadPoolTest, EveryTaskHasAThreadOnItsWay) {
  constexpr int kRounds = 3000;
  ThreadPool pool(RealRuntime(), "pool", 3);
  const auto produce = [&pool] {
    for (int round = 0; round < kRounds; ++round) {
      const int tasks = 1 + round % 5;
      std::atomic<int> left{tasks};
      Latch done;
      for (int i = 0; i < tasks; ++i) {
        pool.Run([&] {
          if (--left == 0) done.Open();
        });
      }
      done.Wait();
    }
  };
  std::unique_ptr<Thread> other =
      RealRuntime().StartThread("producer", produce);
  produce();
  other->Join();
  pool.Stop();
}

TEST(ThreadPoolTest, CountsIdleThreadsAndTheQueue) {
  ThreadPool pool(RealRuntime(), "pool", 2);
  Latch started;
  Latch go;
  pool.Run([&] {
    started.Open();
    go.Wait();
  });
  started.Wait();
  EXPECT_EQ(pool.num_idle_threads(), 1);
  EXPECT_EQ(pool.queue_length(), 0);
  Latch second_started;
  pool.Run([&] {
    second_started.Open();
    go.Wait();
  });
  second_started.Wait();
  pool.Run([] {});
  EXPECT_EQ(pool.num_idle_threads(), 0);
  EXPECT_EQ(pool.queue_length(), 1);
  go.Open();
  pool.Stop();
  EXPECT_EQ(pool.num_idle_threads(), 2);
  EXPECT_EQ(pool.queue_length(), 0);
}

// Tasks that wait for each other need `kThreads` threads at the same time.
TEST(ThreadPoolTest, RunsAsManyAtOnceAsItHasThreads) {
  constexpr int kThreads = 4;
  ThreadPool pool(RealRuntime(), "pool", kThreads);
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> here{0};
    std::vector<std::unique_ptr<Latch>> done;
    Latch all_here;
    for (int i = 0; i < kThreads; ++i) {
      done.push_back(std::make_unique<Latch>());
      pool.Run([&, latch = done.back().get()] {
        if (++here == kThreads) all_here.Open();
        all_here.Wait();
        latch->Open();
      });
    }
    for (const auto& latch : done) latch->Wait();
  }
  pool.Stop();
}

TEST(ThreadPoolTest, TasksMaySubmitTasks) {
  ThreadPool pool(RealRuntime(), "pool", 2);
  std::atomic<int> runs{0};
  Latch done;
  for (int i = 0; i < 10; ++i) {
    pool.Run([&] {
      for (int j = 0; j < 10; ++j) {
        pool.Run([&] {
          if (++runs == 100) done.Open();
        });
      }
    });
  }
  done.Wait();
  pool.Stop();
  EXPECT_EQ(runs, 100);
}

TEST(ThreadPoolTest, RunAfterStopIsRefusedAndDropsTheTask) {
  ThreadPool pool(RealRuntime(), "pool", 2);
  pool.Stop();
  pool.Stop();
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  EXPECT_FALSE(pool.Run([held = std::move(held)] { FAIL(); }));
  EXPECT_TRUE(watch.expired());
}

TEST(ThreadPoolTest, ATaskThatRunsDuringStopCannotSubmit) {
  ThreadPool pool(RealRuntime(), "pool", 1);
  Latch started;
  bool accepted = true;
  pool.Run([&] {
    started.Open();
    // Accepted until `Stop` begins, which the other thread is about to do.
    while (pool.Run([] {})) {
    }
    accepted = pool.Run([] { FAIL(); });
  });
  started.Wait();
  pool.Stop();
  EXPECT_FALSE(accepted);
}

TEST(ThreadPoolTest, EveryStopReturnsAfterTheLastTask) {
  for (int round = 0; round < 20; ++round) {
    ThreadPool pool(RealRuntime(), "pool", 2);
    std::atomic<int> runs{0};
    for (int i = 0; i < 50; ++i) pool.Run([&] { ++runs; });
    std::unique_ptr<Thread> other = RealRuntime().StartThread("stopper", [&] {
      pool.Stop();
      EXPECT_EQ(runs, 50);
    });
    pool.Stop();
    EXPECT_EQ(runs, 50);
    other->Join();
  }
}

// A task is destroyed with no lock held: what it owns may use the pool.
TEST(ThreadPoolTest, DestructorsOfTasksMayUseThePool) {
  ThreadPool pool(RealRuntime(), "pool", 1);
  Latch ran;
  std::shared_ptr<int> runs_another(new int, [&](int* pointer) {
    delete pointer;
    pool.Run([&] { ran.Open(); });
  });
  pool.Run([held = std::move(runs_another)] {});
  ran.Wait();
  pool.Stop();
}

TEST(ThreadPoolTest, GoesOnWithTheThreadsThatThereAre) {
  ScarceRuntime runtime(1);
  ThreadPool pool(runtime, "pool", 3);
  ASSERT_TRUE(pool.Start().ok());
  Latch first_runs, first_may_end, second_ran;
  EXPECT_TRUE(pool.Run([&] {
    first_runs.Open();
    first_may_end.Wait();
  }));
  first_runs.Wait();
  EXPECT_TRUE(pool.Run([&] { second_ran.Open(); }));  // it waits for the first
  EXPECT_EQ(runtime.refused(), 1);
  first_may_end.Open();
  second_ran.Wait();
  EXPECT_TRUE(pool.Stop());
}

TEST(ThreadPoolTest, TriesAgainToStartAThread) {
  ScarceRuntime runtime(1);
  ThreadPool pool(runtime, "pool", 3);
  ASSERT_TRUE(pool.Start().ok());
  Latch first_runs, first_may_end, third_ran;
  pool.Run([&] {
    first_runs.Open();
    first_may_end.Wait();
  });
  first_runs.Wait();
  pool.Run([] {});
  EXPECT_EQ(runtime.refused(), 1);
  runtime.Allow(2);
  pool.Run([&] { third_ran.Open(); });
  third_ran.Wait();  // while the first task still runs
  first_may_end.Open();
  EXPECT_TRUE(pool.Stop());
}

TEST(ThreadPoolTest, SaysThatItHasNoThreadAtAll) {
  ScarceRuntime runtime(0);
  ThreadPool pool(runtime, "pool", 2);
  const absl::Status status = pool.Start();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_NE(status.message().find("'pool-0'"), status.message().npos);
  EXPECT_FALSE(pool.Run([] { FAIL(); }));
  runtime.Allow(1);
  Latch ran;
  EXPECT_TRUE(pool.Run([&] { ran.Open(); }));
  ran.Wait();
  EXPECT_TRUE(pool.Stop());
}

TEST(ThreadPoolTest, StopGivesUpAtItsDeadlineAndDropsTheQueue) {
  ThreadPool pool(RealRuntime(), "pool", 1);
  Latch runs, may_end;
  pool.Run([&] {
    runs.Open();
    may_end.Wait();
  });
  runs.Wait();
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watch = held;
  pool.Run([held = std::move(held)] { FAIL(); });
  EXPECT_FALSE(pool.Stop(RealRuntime().Now() + absl::Milliseconds(10)));
  EXPECT_TRUE(watch.expired());
  may_end.Open();
  EXPECT_TRUE(pool.Stop());  // again
}

TEST(ThreadPoolTest, IdleThreadsEndWhateverTheDeadline) {
  for (int round = 0; round < 20; ++round) {
    ThreadPool pool(RealRuntime(), "pool", 1);
    ASSERT_TRUE(pool.Start().ok());
    EXPECT_TRUE(pool.Stop(absl::InfinitePast()));
  }
}

TEST(ThreadPoolTest, AbandonedThreadsKeepTheOwnerAlive) {
  struct Owner {
    ThreadPool pool{RealRuntime(), "pool", 2};
    Latch* destroyed;
    ~Owner() { destroyed->Open(); }
  };
  Latch runs, may_end, destroyed;
  std::weak_ptr<Owner> watch;
  {
    const auto owner = std::make_shared<Owner>();
    owner->destroyed = &destroyed;
    watch = owner;
    owner->pool.Run([&] {
      runs.Open();
      may_end.Wait();
    });
    runs.Wait();
    EXPECT_FALSE(owner->pool.Stop(absl::InfinitePast()));
    owner->pool.Abandon(owner);
  }
  EXPECT_FALSE(watch.expired());
  may_end.Open();
  destroyed.Wait();  // on the pool's own thread
}

TEST(ThreadPoolDeathTest, MustBeStopped) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_DEATH(
      {
        ThreadPool pool(RealRuntime(), "left", 1);
        pool.Run([] {});
      },
      "'left' was destroyed before its Stop");
  EXPECT_DEATH(ThreadPool(RealRuntime(), "empty", 0), "empty");
}

}  // namespace
}  // namespace reprise
