#include "sim/world/static_guard.h"

#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "gtest/gtest.h"
#include "sim/world/arena.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {
namespace {

std::vector<std::string>& LateStatic() {
  static std::vector<std::string> words = {std::string(100, 'a'),
                                           std::string(200, 'b')};
  return words;
}

TEST(StaticGuardTest, AStaticThatIsMadeInARunSurvivesIt) {
  int64_t live = -1;
  {
    ArenaScope arena;
    LateStatic();
    live = arena.live_allocations();
  }
  EXPECT_EQ(live, 0);
  {
    ArenaScope another;
    std::vector<char> overwrite(100'000, 'z');
  }
  EXPECT_EQ(LateStatic()[0], std::string(100, 'a'));
  EXPECT_EQ(LateStatic()[1], std::string(200, 'b'));
}

TEST(StaticGuardTest, TheArenaIsBackAfterAnInitialiserThatThrows) {
  if (!kHasArena) GTEST_SKIP() << "the sanitizer has a heap of its own";
  bool threw = false;
  int64_t live = -1;
  {
    ArenaScope arena;
    try {
      static const std::string never = [&]() -> std::string {
        throw std::runtime_error("no");
      }();
    } catch (const std::runtime_error&) {
      threw = true;
    }
    const std::string here(100, 'x');
    live = arena.live_allocations();
  }
  EXPECT_TRUE(threw);
  EXPECT_EQ(live, 1);
  EXPECT_FALSE(StaticScope::IsActive());
}

int64_t PointsOfARunThatTouches(int& (*the_static)(TestWorld&)) {
  TestWorld world;
  world.Start(0, "main", [&] { ++the_static(world); });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  return world->scheduler().num_points();
}

int& StaticMadeUnderALock(TestWorld& world) {
  static int made = [&world] {
    Mutex mutex(world.runtime(), "initialiser");
    for (int i = 0; i < 10; ++i) MutexLock lock(mutex);
    return 0;
  }();
  return made;
}

TEST(StaticGuardTest, TheRunThatMakesAStaticHasThePointsOfTheNext) {
  const int64_t first = PointsOfARunThatTouches(&StaticMadeUnderALock);
  EXPECT_EQ(first, PointsOfARunThatTouches(&StaticMadeUnderALock));
}

// Runs a world of this kind, in which two threads touch a static whose
// initialiser sleeps for a second.
template <ContextKind kContext>
void TouchAStaticOfAnother() {
  WorldOptions options = With(Policy::kCooperative);
  options.schedule.context = kContext;
  TestWorld world(options);
  int seen[2] = {};
  const auto touch = [&](int who) {
    static const int late = [&] {
      world.runtime().SleepUntil(world.After(absl::Seconds(1)));
      return 7;
    }();
    seen[who] = late;
  };
  world.Start(0, "first", [&] { touch(0); });
  world.Start(0, "second", [&] { touch(1); });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(seen[0], 7);
  EXPECT_EQ(seen[1], 7);
  EXPECT_EQ(world.now_ns(), kSecond);
}

// Without the guard, the second fiber would block the OS thread for ever.
TEST(StaticGuardTest, AFiberWaitsForAnInitialiserThatBlocks) {
  TouchAStaticOfAnother<kDefaultContext>();
}

// Without the guard, it would wait in libstdc++, with the baton in its hand.
TEST(StaticGuardTest, AThreadWaitsForAnInitialiserThatBlocks) {
  TouchAStaticOfAnother<ContextKind::kThreads>();
}

// Otherwise it would be pending for ever, also for later runs of the process.
TEST(StaticGuardTest, AStaticWhoseMakerDiedIsMadeByAnother) {
  int begun = 0;
  const auto touch = [&](TestWorld& world, int node) {
    static const int late = [&] {
      if (++begun < 3) {
        world.runtime(node).SleepUntil(world.After(absl::InfiniteDuration()));
      }
      return 7;
    }();
    return late;
  };
  {
    TestWorld world;
    world.Start(1, "never ends", [&] { touch(world, 1); });
    world.Start(0, "waits", [&] {
      world.runtime().SleepUntil(world.After(absl::Seconds(1)));
      world->Crash(world.node(1));
      touch(world, 0);
    });
    EXPECT_EQ(world.Run(), Outcome::kDeadlock);
  }
  TestWorld world;
  int seen = 0;
  world.Start(0, "main", [&] { seen = touch(world, 0); });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(seen, 7);
}

// As with `--jobs`: worlds on several OS threads share the statics of the
// process. The pause only makes it likely that a wrong wait is seen.
TEST(StaticGuardTest, AnInitialiserOfAnotherOsThreadIsWaitedFor) {
  std::promise<void> begun;
  const auto touch = [&] {
    static const int slow = [&] {
      begun.set_value();
      absl::SleepFor(absl::Milliseconds(200));
      return 7;
    }();
    return slow;
  };
  std::thread other(touch);
  begun.get_future().wait();
  TestWorld world;
  int seen = 0;
  world.Start(0, "main", [&] { seen = touch(); });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(seen, 7);
  other.join();
}

}  // namespace
}  // namespace reprise
