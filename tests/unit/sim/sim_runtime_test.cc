// The runtime seam as fibers, under each schedule: what `RealRuntime` keeps,
// and what only a world can promise.

#include "sim/world/sim_runtime.h"

#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "agent/runtime/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {
namespace {

using testing::ElementsAre;

class SimRuntimeTest : public testing::TestWithParam<Policy> {
 protected:
  // Runs `body` on a fiber, in many worlds.
  template <typename Body>
  void ForSeeds(const Body& body) {
    for (uint64_t seed = 1; seed <= 100; ++seed) {
      TestWorld world(With(GetParam(), seed));
      world.Start(0, "main", [&] { body(world, world.runtime()); });
      ASSERT_EQ(world.Run(), Outcome::kFinished)
          << "seed " << seed << ": "
          << testing::PrintToString(world->DescribeFibers());
    }
  }
};

INSTANTIATE_TEST_SUITE_P(All, SimRuntimeTest, testing::ValuesIn(kPolicies),
                         [](const auto& info) {
                           return info.param == Policy::kCooperative
                                      ? "Cooperative"
                                  : info.param == Policy::kRandom ? "Random"
                                                                  : "Pct";
                         });

TEST_P(SimRuntimeTest, AMutexExcludes) {
  ForSeeds([](TestWorld&, Runtime& runtime) {
    Mutex mutex(runtime, "m");
    Mutex other(runtime, "other");
    int inside = 0;
    int total = 0;
    std::vector<std::unique_ptr<Thread>> threads;
    for (int i = 0; i < 4; ++i) {
      threads.push_back(runtime.StartThread("t", [&] {
        for (int k = 0; k < 5; ++k) {
          MutexLock lock(mutex);
          EXPECT_EQ(++inside, 1);
          { MutexLock point(other); }  // a place to be interrupted at
          EXPECT_EQ(--inside, 0);
          ++total;
        }
      }));
    }
    for (const auto& thread : threads) thread->Join();
    EXPECT_EQ(total, 20);
  });
}

TEST_P(SimRuntimeTest, ACondVarHandsOver) {
  ForSeeds([](TestWorld&, Runtime& runtime) {
    Mutex mutex(runtime, "m");
    CondVar not_empty(runtime, "not empty");
    CondVar not_full(runtime, "not full");
    std::vector<int> queue;
    std::vector<int> taken;
    const auto producer = runtime.StartThread("producer", [&] {
      for (int i = 0; i < 20; ++i) {
        MutexLock lock(mutex);
        while (queue.size() == 2) {
          not_full.WaitUntil(mutex, absl::InfiniteFuture());
        }
        queue.push_back(i);
        not_empty.NotifyOne();
      }
    });
    while (taken.size() < 20) {
      MutexLock lock(mutex);
      while (queue.empty()) {
        not_empty.WaitUntil(mutex, absl::InfiniteFuture());
      }
      taken.push_back(queue.front());
      queue.erase(queue.begin());
      not_full.NotifyOne();
    }
    producer->Join();
    for (int i = 0; i < 20; ++i) EXPECT_EQ(taken[i], i);
  });
}

TEST_P(SimRuntimeTest, NotifyAllWakesAll) {
  ForSeeds([](TestWorld&, Runtime& runtime) {
    Mutex mutex(runtime, "m");
    CondVar go(runtime, "go");
    bool set = false;
    int woken = 0;
    std::vector<std::unique_ptr<Thread>> threads;
    for (int i = 0; i < 5; ++i) {
      threads.push_back(runtime.StartThread("t", [&] {
        MutexLock lock(mutex);
        while (!set) go.WaitUntil(mutex, absl::InfiniteFuture());
        ++woken;
      }));
    }
    runtime.SleepUntil(runtime.Now() + absl::Milliseconds(10));
    {
      MutexLock lock(mutex);
      set = true;
      go.NotifyAll();
    }
    for (const auto& thread : threads) thread->Join();
    EXPECT_EQ(woken, 5);
  });
}

TEST_P(SimRuntimeTest, NotifyOneWakesOne) {
  ForSeeds([](TestWorld&, Runtime& runtime) {
    Mutex mutex(runtime, "m");
    CondVar cond(runtime, "c");
    int tickets = 0;
    int notified = 0;
    int timed_out = 0;
    std::vector<std::unique_ptr<Thread>> threads;
    const absl::Time deadline = runtime.Now() + absl::Seconds(1);
    for (int i = 0; i < 3; ++i) {
      threads.push_back(runtime.StartThread("t", [&] {
        MutexLock lock(mutex);
        while (tickets == 0) {
          if (!cond.WaitUntil(mutex, deadline)) {
            EXPECT_GE(runtime.Now(), deadline);
            ++timed_out;
            return;
          }
        }
        --tickets;
        ++notified;
      }));
    }
    runtime.SleepUntil(runtime.Now() + absl::Milliseconds(10));
    {
      MutexLock lock(mutex);
      ++tickets;
    }
    cond.NotifyOne();  // without the mutex held
    for (const auto& thread : threads) thread->Join();
    EXPECT_EQ(notified, 1);
    EXPECT_EQ(timed_out, 2);
  });
}

TEST_P(SimRuntimeTest, AWaitEndsAtItsDeadlineNotBefore) {
  ForSeeds([](TestWorld& world, Runtime& runtime) {
    Mutex mutex(runtime, "m");
    CondVar cond(runtime, "c");
    MutexLock lock(mutex);
    const absl::Time deadline = runtime.Now() + absl::Milliseconds(3);
    EXPECT_FALSE(cond.WaitUntil(mutex, deadline));
    EXPECT_GE(runtime.Now(), deadline);
    // Only a stall may come on top: when it takes the lock back.
    EXPECT_LE(runtime.Now(),
              deadline + absl::Nanoseconds(
                             2 * world->options().schedule.max_stall_ns));
  });
}

TEST_P(SimRuntimeTest, AWaitWithADeadlineInThePastLetsOthersIn) {
  ForSeeds([](TestWorld&, Runtime& runtime) {
    Mutex mutex(runtime, "m");
    CondVar cond(runtime, "c");
    bool set = false;
    auto thread = runtime.StartThread("setter", [&] {
      MutexLock lock(mutex);
      set = true;
    });
    {
      MutexLock lock(mutex);
      // Polls: must come to its end.
      while (!set) {
        EXPECT_FALSE(cond.WaitUntil(mutex, runtime.Now()));
        mutex.Unlock();
        runtime.SleepUntil(runtime.Now() + absl::Microseconds(1));
        mutex.Lock();
      }
    }
    thread->Join();
  });
}

TEST_P(SimRuntimeTest, ATimedOutWaiterTakesNoNotification) {
  ForSeeds([](TestWorld&, Runtime& runtime) {
    Mutex mutex(runtime, "m");
    CondVar cond(runtime, "c");
    int woken = 0;
    const auto early = runtime.StartThread("early", [&] {
      MutexLock lock(mutex);
      EXPECT_FALSE(
          cond.WaitUntil(mutex, runtime.Now() + absl::Milliseconds(1)));
    });
    early->Join();
    const auto late = runtime.StartThread("late", [&] {
      MutexLock lock(mutex);
      EXPECT_TRUE(cond.WaitUntil(mutex, runtime.Now() + absl::Minutes(1)));
      ++woken;
    });
    runtime.SleepUntil(runtime.Now() + absl::Milliseconds(5));
    cond.NotifyOne();
    late->Join();
    EXPECT_EQ(woken, 1);
  });
}

// One whose time has passed may not have run yet when another is notified.
TEST_P(SimRuntimeTest, AWaiterThatIsLateToLeaveTakesNoNotification) {
  ForSeeds([](TestWorld&, Runtime& runtime) {
    Mutex mutex(runtime, "m");
    CondVar cond(runtime, "c");
    const absl::Time at = runtime.Now() + absl::Milliseconds(1);
    int timed_out = 0;
    int woken = 0;
    // They wait in this order, and the first and the third wake at once.
    const auto early = runtime.StartThread("early", [&] {
      MutexLock lock(mutex);
      if (!cond.WaitUntil(mutex, at)) ++timed_out;
    });
    runtime.SleepUntil(at - absl::Microseconds(800));
    const auto late = runtime.StartThread("late", [&] {
      MutexLock lock(mutex);
      if (cond.WaitUntil(mutex, at + absl::Minutes(1))) ++woken;
    });
    runtime.SleepUntil(at - absl::Microseconds(400));
    const auto notifier = runtime.StartThread("notifier", [&] {
      runtime.SleepUntil(at);
      cond.NotifyOne();
    });
    early->Join();
    late->Join();
    notifier->Join();
    EXPECT_EQ(woken, timed_out);
  });
}

TEST_P(SimRuntimeTest, JoinWaitsForTheEnd) {
  ForSeeds([](TestWorld&, Runtime& runtime) {
    bool ended = false;
    const auto thread = runtime.StartThread("t", [&] {
      runtime.SleepUntil(runtime.Now() + absl::Milliseconds(1));
      ended = true;
    });
    thread->Join();
    EXPECT_TRUE(ended);
    const auto quick = runtime.StartThread("quick", [] {});
    runtime.SleepUntil(runtime.Now() + absl::Milliseconds(1));
    quick->Join();  // of one that has ended long since
  });
}

TEST_P(SimRuntimeTest, ASleepIsNeverTooShort) {
  ForSeeds([](TestWorld& world, Runtime& runtime) {
    const absl::Time deadline = runtime.Now() + absl::Microseconds(7);
    runtime.SleepUntil(deadline);
    EXPECT_GE(runtime.Now(), deadline);
    const int64_t before_ns = world.now_ns();
    runtime.SleepUntil(runtime.Now() - absl::Seconds(1));
    EXPECT_LE(world.now_ns() - before_ns,
              world->options().schedule.max_stall_ns);
  });
}

TEST_P(SimRuntimeTest, AStdFutureBlocksTheFiberOnly) {
  ForSeeds([](TestWorld&, Runtime& runtime) {
    std::promise<int> promise;
    std::future<int> future = promise.get_future();
    const auto thread = runtime.StartThread("t", [&] {
      runtime.SleepUntil(runtime.Now() + absl::Milliseconds(1));
      promise.set_value(7);
    });
    EXPECT_EQ(future.get(), 7);
    thread->Join();
  });
}

TEST_P(SimRuntimeTest, ExceptionsBelongToTheirFiber) {
  ForSeeds([](TestWorld&, Runtime& runtime) {
    std::vector<std::unique_ptr<Thread>> threads;
    std::vector<std::string> caught(3);
    for (int i = 0; i < 3; ++i) {
      threads.push_back(runtime.StartThread("t", [&, i] {
        try {
          try {
            throw std::runtime_error(std::to_string(i));
          } catch (const std::runtime_error&) {
            // Others throw while this one is being handled.
            runtime.SleepUntil(runtime.Now() + absl::Milliseconds(3 - i));
            EXPECT_NE(std::current_exception(), nullptr);
            throw;
          }
        } catch (const std::runtime_error& error) {
          caught[i] = error.what();
        }
      }));
    }
    for (const auto& thread : threads) thread->Join();
    EXPECT_THAT(caught, ElementsAre("0", "1", "2"));
  });
}

// Between the test of a condition and the wait for it somebody can slip in:
// what a notification without the lock would lose, the schedules must find.
TEST(SimScheduleTest, FindsALostWakeUp) {
  for (const Policy policy : {Policy::kRandom, Policy::kPct}) {
    int deadlocks = 0;
    for (uint64_t seed = 1; seed <= 300; ++seed) {
      TestWorld world(With(policy, seed));
      Mutex mutex(world.runtime(), "m");
      CondVar cond(world.runtime(), "c");
      Mutex flag_mutex(world.runtime(), "flag");
      bool set = false;
      const auto is_set = [&] {
        MutexLock lock(flag_mutex);
        return set;
      };
      world.Start(0, "waiter", [&] {
        MutexLock lock(mutex);
        while (!is_set()) cond.WaitUntil(mutex, absl::InfiniteFuture());
      });
      world.Start(0, "setter", [&] {
        MutexLock lock(flag_mutex);  // the wrong one
        set = true;
        cond.NotifyOne();
      });
      const Outcome outcome = world.Run();
      if (outcome == Outcome::kDeadlock) ++deadlocks;
    }
    EXPECT_GT(deadlocks, 0) << static_cast<int>(policy);
  }
}

TEST(SimScheduleTest, FindsALockInversion) {
  for (const Policy policy : {Policy::kRandom, Policy::kPct}) {
    int deadlocks = 0;
    for (uint64_t seed = 1; seed <= 300; ++seed) {
      TestWorld world(With(policy, seed));
      Mutex a(world.runtime(), "a");
      Mutex b(world.runtime(), "b");
      world.Start(0, "x", [&] {
        MutexLock outer(a);
        MutexLock inner(b);
      });
      world.Start(0, "y", [&] {
        MutexLock outer(b);
        MutexLock inner(a);
      });
      if (world.Run() == Outcome::kDeadlock) ++deadlocks;
    }
    EXPECT_GT(deadlocks, 0) << static_cast<int>(policy);
  }
}

TEST(SimScheduleTest, CooperativeSwitchesOnlyWhenBlocked) {
  TestWorld world;
  std::vector<std::string> order;
  for (const char* name : {"a", "b"}) {
    world.Start(0, name, [&, name] {
      Mutex mutex(world.runtime(), "m");
      for (int i = 0; i < 3; ++i) {
        MutexLock lock(mutex);
        order.push_back(name);
      }
    });
  }
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_THAT(order, ElementsAre("a", "a", "a", "b", "b", "b"));
  EXPECT_EQ(world.now_ns(), 0);
  EXPECT_EQ(world->decisions().num_made(), 0);
}

TEST(SimScheduleTest, StallsTakeVirtualTime) {
  WorldOptions options = With(Policy::kRandom);
  options.schedule.stall_probability = 1;
  options.schedule.max_stall_ns = 1000;
  TestWorld world(options);
  world.Start(0, "main", [&] {
    Mutex mutex(world.runtime(), "m");
    for (int i = 0; i < 100; ++i) {
      const int64_t before_ns = world.now_ns();
      MutexLock lock(mutex);
      EXPECT_GE(world.now_ns() - before_ns, 1);
      EXPECT_LE(world.now_ns() - before_ns, 1000);
    }
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  int64_t stalls = 0;
  int64_t stalled_ns = 0;
  for (const Event& event : world->trace().events()) {
    if (event.kind != EventKind::kStall) continue;
    ++stalls;
    stalled_ns += event.stall_ns();
  }
  EXPECT_EQ(stalls, 100);
  EXPECT_EQ(stalled_ns, world.now_ns());
  // Spread over what is allowed.
  EXPECT_GT(stalled_ns, 100 * 1000 / 4);
  EXPECT_LT(stalled_ns, 100 * 1000 * 3 / 4);
}

TEST(SimScheduleTest, PointsAtForeignLocksWhenAsked) {
  for (const bool asked : {false, true}) {
    WorldOptions options = With(Policy::kRandom);
    options.schedule.tensorpipe_locks = asked;
    options.schedule.stall_probability = 0;
    TestWorld world(options);
    std::mutex foreign;
    int inside = 0;
    int total = 0;
    std::vector<std::string> order;
    for (const char* name : {"a", "b", "c"}) {
      world.Start(0, name, [&, name] {
        for (int i = 0; i < 10; ++i) {
          std::lock_guard<std::mutex> lock(foreign);
          EXPECT_EQ(++inside, 1);
          ++total;
          order.push_back(name);
          --inside;
        }
      });
    }
    EXPECT_EQ(world.Run(), Outcome::kFinished);
    EXPECT_EQ(total, 30);
    int changes = 0;
    for (size_t i = 1; i < order.size(); ++i) {
      changes += order[i] != order[i - 1] ? 1 : 0;
    }
#if !defined(__SANITIZE_THREAD__)
    if (asked) {
      EXPECT_GT(changes, 2);
      EXPECT_GE(world->scheduler().num_points(), 30);
    }
#endif
    if (!asked) {
      EXPECT_EQ(changes, 2);
    }
  }
}

// TensorPipe compares ids to see whether it is in its own loop, in code that is
// compiled into the project, too.
TEST(SimScheduleTest, TheProjectsOwnCodeSeesOneThread) {
  TestWorld world;
  std::vector<std::thread::id> ids = {std::this_thread::get_id()};
  for (const char* name : {"a", "b"}) {
    world.Start(0, name, [&] { ids.push_back(std::this_thread::get_id()); });
  }
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  ASSERT_EQ(ids.size(), 3u);
#if !defined(__SANITIZE_THREAD__)
  EXPECT_EQ(ids[1], ids[0]);
  EXPECT_EQ(ids[2], ids[0]);
#endif
}

TEST(SimScheduleTest, AForeignLockThatIsHeldBlocksTheFiberOnly) {
#if !defined(__SANITIZE_THREAD__)
  WorldOptions options = With(Policy::kRandom);
  options.schedule.tensorpipe_locks = true;
  TestWorld world(options);
  std::mutex foreign;
  int64_t entered_ns = 0;
  world.Start(0, "holder", [&] {
    std::lock_guard<std::mutex> lock(foreign);
    world.Start(0, "other", [&] {
      std::lock_guard<std::mutex> inner(foreign);
      entered_ns = world.now_ns();
    });
    world.runtime().SleepUntil(world.After(absl::Milliseconds(5)));
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_GE(entered_ns, 5 * kMillisecond);
#endif
}

}  // namespace
}  // namespace reprise
