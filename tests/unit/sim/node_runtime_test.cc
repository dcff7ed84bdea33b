// The agent's real runtime on a node of a world: the same run as with the
// simulated one, and the same names.

#include "sim/interpose/node_runtime.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/thread_pool.h"
#include "agent/runtime/timer.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {
namespace {

constexpr uint64_t kSeeds = 50;

WorldOptions OnThreads(Policy policy = Policy::kCooperative,
                       uint64_t seed = 1) {
  WorldOptions options = With(policy, seed);
  options.schedule.context = ContextKind::kThreads;
  return options;
}

using Body = absl::FunctionRef<void(TestWorld& world, Runtime& runtime)>;

// The events of a run of `body`, a line each.
std::string TraceOf(const WorldOptions& options, bool is_real, Body body) {
  TestWorld world(options);
  Runtime* runtime = &world.runtime();
  std::unique_ptr<Runtime> real;
  if (is_real) {
    real = MakeRealRuntimeOn(*world, world.node());
    runtime = real.get();
  }
  world.Start(0, "main", [&] { body(world, *runtime); });
  EXPECT_EQ(world.Run(), Outcome::kFinished)
      << absl::StrJoin(world->DescribeFibers(), "\n");
  return absl::StrJoin(world->trace().events(), "\n",
                       [](std::string* out, const Event& event) {
                         out->append(ToString(event));
                       });
}

void ExpectTheSameRuns(Body body) {
  for (const Policy policy : kPolicies) {
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
      const WorldOptions options = OnThreads(policy, seed);
      ASSERT_EQ(TraceOf(options, /*is_real=*/false, body),
                TraceOf(options, /*is_real=*/true, body))
          << "seed " << seed;
    }
  }
}

void NoteNumber(TestWorld& world, uint64_t number) {
  world->Record(&world.node(), {.kind = EventKind::kNote, .id = number});
}

TEST(NodeRuntimeTest, LocksAndWaitsAreTheSame) {
  ExpectTheSameRuns([](TestWorld& world, Runtime& runtime) {
    Mutex mutex(runtime, "m");
    Mutex other(runtime, "other");
    CondVar changed(runtime, "c");
    uint64_t items = 0;
    std::vector<std::unique_ptr<Thread>> threads;
    for (int i = 0; i < 4; ++i) {
      threads.push_back(runtime.StartThread("worker", [&, i] {
        for (int round = 0; round < 10; ++round) {
          MutexLock lock(mutex);
          { MutexLock point(other); }
          NoteNumber(world, ++items);
          round % 3 == 0 ? changed.NotifyAll() : changed.NotifyOne();
          // Some deadlines have passed before the wait begins.
          changed.WaitUntil(mutex,
                            runtime.Now() + absl::Microseconds(20 * (i - 1)));
        }
      }));
    }
    for (const auto& thread : threads) thread->Join();
  });
}

TEST(NodeRuntimeTest, PoolsAndTimersAreTheSame) {
  ExpectTheSameRuns([](TestWorld& world, Runtime& runtime) {
    ThreadPool pool(runtime, "pool", 3);
    Timer timer(runtime, "timer");
    for (uint64_t i = 0; i < 10; ++i) {
      timer.Schedule(runtime.Now() + absl::Microseconds(7 * i), [&, i] {
        pool.Run([&, i] {
          runtime.SleepUntil(runtime.Now() + absl::Microseconds(i));
          NoteNumber(world, i);
        });
      });
    }
    runtime.SleepUntil(runtime.Now() + absl::Milliseconds(1));
    NoteNumber(world, runtime.RandomBits());
    timer.Stop();
    EXPECT_TRUE(pool.Stop());
    EXPECT_FALSE(pool.IsCurrentThread());
  });
}

// Also where the clock is wrong, and the wall clock was set.
TEST(NodeRuntimeTest, TheClockIsTheNodes) {
  for (const int64_t gain_ns : {0, 300'000'000, -300'000'000}) {
    TestWorld world(OnThreads());
    world->clock(0).Jump(5 * kSecond);
    world->clock(0).Drift(gain_ns);
    const std::unique_ptr<Runtime> real =
        MakeRealRuntimeOn(*world, world.node());
    world.Start(0, "main", [&] {
      EXPECT_EQ(real->Now(), world.runtime().Now());
      const absl::Time deadline = real->Now() + absl::Seconds(10);
      real->SleepUntil(deadline);
      EXPECT_GE(real->Now(), deadline);
      EXPECT_LT(real->Now(), deadline + absl::Nanoseconds(2));
      EXPECT_EQ(real->Now(), world.runtime().Now());
    });
    EXPECT_EQ(world.Run(), Outcome::kFinished);
  }
}

TEST(NodeRuntimeTest, ADeadlockIsToldByTheNamesOfLocksAndThreads) {
  TestWorld world(OnThreads());
  const std::unique_ptr<Runtime> real = MakeRealRuntimeOn(*world, world.node());
  Mutex mutex(*real, "Table");
  CondVar never(*real, "Table.changed");
  world.Start(0, "main", [&] {
    const auto holder = real->StartThread("holder", [&] {
      MutexLock lock(mutex);
      real->SleepUntil(absl::InfiniteFuture());
    });
    const auto waiter = real->StartThread("waiter", [&] {
      Mutex own(*real, "Own");
      MutexLock lock(own);
      never.WaitUntil(own, absl::InfiniteFuture());
    });
    real->SleepUntil(real->Now() + absl::Milliseconds(1));
    MutexLock lock(mutex);
  });
  EXPECT_EQ(world.Run(), Outcome::kDeadlock);
  const std::string report = absl::StrJoin(world->DescribeFibers(), "\n");
  for (const char* line :
       {"w0/main locks Table, held by w0/holder", "w0/holder sleeps",
        "w0/waiter waits for Table.changed"}) {
    EXPECT_TRUE(absl::StrContains(report, line)) << report;
  }
}

TEST(NodeRuntimeTest, ShortagesAreTheNodes) {
  TestWorld world(OnThreads());
  const std::unique_ptr<Runtime> real = MakeRealRuntimeOn(*world, world.node());
  int strikes = 0;
  for (Shortage* shortage : {&world.node().threads, &world.node().memory}) {
    shortage->until_ns = kSecond;
    shortage->on_strike = [&] { ++strikes; };
  }
  world.Start(0, "main", [&] {
    EXPECT_EQ(real->StartThread("refused", [] { ADD_FAILURE(); }), nullptr);
    EXPECT_FALSE(real->HasMemory());
    EXPECT_EQ(strikes, 2);
    real->SleepUntil(real->Now() + absl::Seconds(2));
    EXPECT_TRUE(real->HasMemory());
    const auto thread = real->StartThread("given", [] {});
    ASSERT_NE(thread, nullptr);
    thread->Join();
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
}

TEST(NodeRuntimeTest, ACrashLeavesTheOtherNodesAlone) {
  TestWorld world(OnThreads());
  const std::unique_ptr<Runtime> real = MakeRealRuntimeOn(*world, world.node());
  const std::unique_ptr<Runtime> other =
      MakeRealRuntimeOn(*world, world.node(1));
  Mutex mutex(*real, "m");
  bool has_slept = false;
  world.Start(0, "main", [&] {
    MutexLock lock(mutex);
    real->SleepUntil(real->Now() + absl::Seconds(1));
    world->Crash(world.node());
  });
  world.Start(0, "waits", [&] {
    MutexLock lock(mutex);
    ADD_FAILURE() << "it runs after the crash of its node";
  });
  world.Start(1, "main", [&] {
    other->SleepUntil(other->Now() + absl::Seconds(2));
    has_slept = true;
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_TRUE(has_slept);
}

}  // namespace
}  // namespace reprise
