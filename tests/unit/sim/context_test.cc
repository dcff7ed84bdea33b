// What the threads of a world are makes no difference to the run.

#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "agent/runtime/mutex.h"
#include "sim/world/arena.h"
#include "sim/world/world.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {
namespace {

WorldOptions On(ContextKind context, Policy policy = Policy::kRandom,
                uint64_t seed = 1) {
  WorldOptions options = With(policy, seed);
  options.schedule.context = context;
  return options;
}

int NumOsThreads() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator("/proc/self/task")) {
    ++count;
  }
  return count;
}

// Three threads hand items to one another, until a time-out.
uint64_t HashOfBusyRun(ContextKind context, Policy policy, uint64_t seed) {
  TestWorld world(On(context, policy, seed));
  world.Start(0, "main", [&] {
    SimRuntime& runtime = world.runtime();
    Mutex mutex(runtime, "m");
    CondVar changed(runtime, "c");
    int items = 0;
    std::vector<std::unique_ptr<Thread>> threads;
    for (int i = 0; i < 3; ++i) {
      threads.push_back(runtime.StartThread("worker", [&] {
        for (int round = 0; round < 20; ++round) {
          MutexLock lock(mutex);
          ++items;
          changed.NotifyOne();
          changed.WaitUntil(mutex, runtime.Now() + absl::Microseconds(30));
        }
      }));
    }
    for (const auto& thread : threads) thread->Join();
    EXPECT_EQ(items, 60);
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  return world->trace().hash();
}

TEST(ContextTest, TheRunIsTheSame) {
  if (kHasTsan) GTEST_SKIP() << "there are no fibers under TSan";
  for (const Policy policy : kPolicies) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      EXPECT_EQ(HashOfBusyRun(ContextKind::kFibers, policy, seed),
                HashOfBusyRun(ContextKind::kThreads, policy, seed))
          << "seed " << seed;
    }
  }
}

TEST(ContextTest, NoThreadIsLeftBehind) {
  const int before = NumOsThreads();
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    TestWorld world(On(ContextKind::kThreads, Policy::kRandom, seed));
    world.Start(0, "ends", [] {});
    world.Start(0, "blocks", [&] {
      world.runtime().SleepUntil(world.After(absl::Minutes(10)));
    });
    // The crash strikes a thread that runs, one that waits, and one that has
    // never run.
    world.Start(0, "crashes", [&] {
      world->scheduler().Start(world.node(), "never", [] {});
      world->Crash(world.node());
      ADD_FAILURE() << "it runs after its crash";
    });
    EXPECT_EQ(world.Run(), Outcome::kFinished);
  }
  EXPECT_EQ(NumOsThreads(), before);
}

struct Flag {
  explicit Flag(int& count) : count(count) {}
  ~Flag() { ++count; }
  int& count;
};

TEST(ContextTest, NothingOfACrashedThreadIsDestroyed) {
  int destroyed = 0;
  {
    TestWorld world(On(ContextKind::kThreads));
    world.Start(0, "crashes", [&] {
      const Flag on_the_stack(destroyed);
      thread_local const Flag of_the_thread(destroyed);
      EXPECT_EQ(&of_the_thread.count, &destroyed);
      world->Crash(world.node());
    });
    EXPECT_EQ(world.Run(), Outcome::kFinished);
  }
  EXPECT_EQ(destroyed, 0);
}

TEST(ContextTest, ThreadLocalsAreOfOneThreadAndGoWithIt) {
  TestWorld world(On(ContextKind::kThreads));
  world.Start(0, "main", [&] {
    SimRuntime& runtime = world.runtime();
    int destroyed = 0;
    for (int i = 1; i <= 3; ++i) {
      runtime
          .StartThread("worker",
                       [&] {
                         thread_local int visits = 0;
                         thread_local const Flag flag(destroyed);
                         EXPECT_EQ(&flag.count, &destroyed);
                         EXPECT_EQ(++visits, 1);
                       })
          ->Join();
      EXPECT_EQ(destroyed, i);
    }
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
}

TEST(ContextTest, EachThreadHasTheNameOfItsFiber) {
  TestWorld world(On(ContextKind::kThreads));
  std::vector<std::string> names;
  for (const char* name : {"worker", "a long name, which is cut"}) {
    world.Start(0, name, [&] {
      char own[16];
      prctl(PR_GET_NAME, own);
      names.emplace_back(own);
    });
  }
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"w0/a long name,", "w0/worker"}));
}

TEST(ContextTest, EachThreadAllocatesInTheArenaOfTheRun) {
  if (!kHasArena) GTEST_SKIP() << "sanitizers have their own heap";
  const ArenaScope arena;
  auto world = std::make_unique<TestWorld>(On(ContextKind::kThreads));
  auto kept = std::make_unique<std::vector<std::string*>>();
  kept->reserve(8);
  int64_t before = 0;
  int64_t after = 0;
  world->Start(0, "main", [&] {
    EXPECT_EQ(World::Current(), &**world);
    auto thread = world->runtime().StartThread("worker", [&] {
      EXPECT_EQ(World::Current(), &**world);
      before = arena.live_allocations();
      kept->push_back(new std::string());
      after = arena.live_allocations();
    });
    thread->Join();
  });
  EXPECT_EQ(world->Run(), Outcome::kFinished);
  EXPECT_EQ(after, before + 1);
  for (std::string* string : *kept) delete string;
}

TEST(ContextTest, EachThreadHandlesItsOwnExceptions) {
  for (const ContextKind context : {kDefaultContext, ContextKind::kThreads}) {
    TestWorld world(On(context));
    for (int i = 0; i < 3; ++i) {
      world.Start(0, "thrower", [&, i] {
        try {
          throw std::runtime_error(std::to_string(i));
        } catch (const std::runtime_error&) {
          world.runtime().SleepUntil(world.After(absl::Microseconds(5 - i)));
          try {
            throw;
          } catch (const std::runtime_error& again) {
            EXPECT_EQ(again.what(), std::to_string(i));
          }
        }
      });
    }
    EXPECT_EQ(world.Run(), Outcome::kFinished);
  }
}

}  // namespace
}  // namespace reprise
