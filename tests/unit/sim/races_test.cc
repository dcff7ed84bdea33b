// ThreadSanitizer over worlds: it reports the races of what runs in a world,
// and nothing of the world itself. In other builds only the runs are tried.

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/thread_pool.h"
#include "agent/runtime/timer.h"
#include "sim/interpose/node_runtime.h"
#include "sim/world/race_annotations.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {
namespace {

constexpr uint64_t kSeeds = 20;

void Explore(absl::FunctionRef<void(TestWorld&)> body) {
  for (const Policy policy : kPolicies) {
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
      WorldOptions options = With(policy, seed);
      options.schedule.context = ContextKind::kThreads;
      TestWorld world(options);
      world.Start(0, "main", [&] { body(world); });
      EXPECT_EQ(world.Run(), Outcome::kFinished);
    }
  }
}

// In a build with TSan, `body` must be reported within `kSeeds` seeds.
void ExpectRace(absl::FunctionRef<void(TestWorld&)> body) {
  if (!kHasTsan) return Explore(body);
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        Explore(body);
        std::exit(0);
      },
      testing::ExitedWithCode(66), "ThreadSanitizer: data race");
}

// Two threads that each count to 5.
void Count(TestWorld& world, absl::FunctionRef<void(int thread)> count) {
  std::vector<std::unique_ptr<Thread>> threads;
  for (int i = 0; i < 2; ++i) {
    threads.push_back(world.runtime().StartThread("counter", [&, i] {
      for (int round = 0; round < 5; ++round) {
        count(i);
        world.runtime().SleepUntil(world.After(absl::Microseconds(10)));
      }
    }));
  }
  for (const auto& thread : threads) thread->Join();
}

void CountWithoutLock(TestWorld& world) {
  int counter = 0;
  Count(world, [&](int /*thread*/) { ++counter; });
}

TEST(RacesTest, ACounterWithoutALock) { ExpectRace(CountWithoutLock); }

TEST(RacesTest, ACounterWithItsLock) {
  Explore([](TestWorld& world) {
    Mutex mutex(world.runtime(), "m");
    int counter = 0;
    Count(world, [&](int /*thread*/) {
      MutexLock lock(mutex);
      ++counter;
    });
    EXPECT_EQ(counter, 10);
  });
}

void CountWithALockEach(TestWorld& world) {
  Mutex first(world.runtime(), "first");
  Mutex second(world.runtime(), "second");
  int counter = 0;
  Count(world, [&](int thread) {
    MutexLock lock(thread == 0 ? first : second);
    ++counter;
  });
}

TEST(RacesTest, ACounterWithTwoLocks) { ExpectRace(CountWithALockEach); }

// Of libc, as user code has it.
void CountUnderASharedMutex(TestWorld& world, bool excludes) {
  std::shared_mutex mutex;
  int counter = 0;
  Count(world, [&](int /*thread*/) {
    if (excludes) {
      const std::unique_lock lock(mutex);
      ++counter;
    } else {
      const std::shared_lock lock(mutex);
      ++counter;
    }
    const std::shared_lock lock(mutex);
    EXPECT_GT(counter, 0);
  });
}

TEST(RacesTest, ACounterUnderALockForWriters) {
  Explore([](TestWorld& world) {
    CountUnderASharedMutex(world, /*excludes=*/true);
  });
}

TEST(RacesTest, ACounterUnderALockForReaders) {
  ExpectRace([](TestWorld& world) {
    CountUnderASharedMutex(world, /*excludes=*/false);
  });
}

// With the runtime of production.
void CountOnTheRealRuntime(TestWorld& world, bool locks) {
  const std::unique_ptr<Runtime> runtime =
      MakeRealRuntimeOn(*world, world.node());
  Mutex mutex(*runtime, "m");
  int counter = 0;
  std::vector<std::unique_ptr<Thread>> threads;
  for (int i = 0; i < 2; ++i) {
    threads.push_back(runtime->StartThread("counter", [&] {
      for (int round = 0; round < 5; ++round) {
        if (locks) {
          MutexLock lock(mutex);
          ++counter;
        } else {
          ++counter;
        }
        runtime->SleepUntil(runtime->Now() + absl::Microseconds(10));
      }
    }));
  }
  for (const auto& thread : threads) thread->Join();
  EXPECT_EQ(counter, 10);
}

TEST(RacesTest, ACounterWithItsLockOnTheRealRuntime) {
  Explore(
      [](TestWorld& world) { CountOnTheRealRuntime(world, /*locks=*/true); });
}

TEST(RacesTest, ACounterWithoutALockOnTheRealRuntime) {
  ExpectRace(
      [](TestWorld& world) { CountOnTheRealRuntime(world, /*locks=*/false); });
}

// The second thread begins after the first has ended, but nobody has waited.
void CountOneAfterTheOther(TestWorld& world) {
  int counter = 0;
  auto first = world.runtime().StartThread("first", [&] { ++counter; });
  world.runtime().SleepUntil(world.After(absl::Seconds(1)));
  auto second = world.runtime().StartThread("second", [&] { ++counter; });
  first->Join();
  second->Join();
}

TEST(RacesTest, TimeOrdersNothing) { ExpectRace(CountOneAfterTheOther); }

TEST(RacesTest, StartAndJoinOrder) {
  Explore([](TestWorld& world) {
    int counter = 0;
    for (int i = 0; i < 3; ++i) {
      ++counter;
      auto thread = world.runtime().StartThread("counter", [&] { ++counter; });
      thread->Join();
    }
    EXPECT_EQ(counter, 6);
  });
}

TEST(RacesTest, ALockIsKeptOverAWait) {
  Explore([](TestWorld& world) {
    Mutex mutex(world.runtime(), "m");
    CondVar changed(world.runtime(), "c");
    std::vector<int> queue;
    auto consumer = world.runtime().StartThread("consumer", [&] {
      for (int taken = 0; taken < 5;) {
        MutexLock lock(mutex);
        while (queue.empty()) {
          changed.WaitUntil(mutex, world.After(absl::Microseconds(20)));
        }
        taken += static_cast<int>(queue.size());
        queue.clear();
      }
    });
    for (int i = 0; i < 5; ++i) {
      MutexLock lock(mutex);
      queue.push_back(i);
      changed.NotifyAll();
    }
    consumer->Join();
  });
}

// What one node does before another is no reason to report anything of the
// simulator, and neither is a crash.
TEST(RacesTest, NothingOfTheWorldIsReported) {
  Explore([](TestWorld& world) {
    for (int rank = 1; rank <= 2; ++rank) world.node(rank);
    for (int rank = 1; rank <= 2; ++rank) {
      world.Start(rank, "main", [&world, rank] {
        Node& node = world.node(rank);
        world->PostIo(node, [&world, &node] {
          world->Record(&node, {.kind = EventKind::kNote, .text = "io"});
        });
        world.runtime(rank).SleepUntil(world.After(absl::Microseconds(rank)));
        if (rank == 1) world->Crash(node);
      });
    }
  });
}

TEST(RacesTest, ThePoolAndTheTimerOfTheAgent) {
  Explore([](TestWorld& world) {
    Mutex mutex(world.runtime(), "m");
    int done = 0;
    ThreadPool pool(world.runtime(), "pool", 3);
    Timer timer(world.runtime(), "timer");
    const auto work = [&] {
      MutexLock lock(mutex);
      ++done;
    };
    for (int i = 0; i < 10; ++i) {
      pool.Run(work);
      timer.Schedule(world.After(absl::Microseconds(i)),
                     [&] { pool.Run(work); });
    }
    world.runtime().SleepUntil(world.After(absl::Milliseconds(1)));
    timer.Stop();
    EXPECT_TRUE(pool.Stop());
    EXPECT_EQ(done, 20);
  });
}

}  // namespace
}  // namespace reprise
