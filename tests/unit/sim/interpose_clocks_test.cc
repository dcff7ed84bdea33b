// What user code gets of the clocks of libc and libstdc++ on a machine whose
// clocks are wrong.

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/unit/sim/sim_testing.h"

// Not in the namespace of the project, whose own calls have no places.
namespace interpose_clocks_test {
namespace {

using namespace reprise;               // NOLINT(google-build-using-namespace)
using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace)

// Runs `body` as the main thread of a worker.
Outcome RunAsMain(TestWorld& world, absl::AnyInvocable<void()> body) {
  world.Start(0, "main", std::move(body));
  return world.Run();
}

// A clock that somebody has set moves no sleep and no steady deadline.
TEST(InterposeClocksTest, OnlyTheWallClockJumps) {
  TestWorld world;
  ASSERT_EQ(RunAsMain(world,
                      [&] {
                        const auto steady = std::chrono::steady_clock::now();
                        const auto wall = std::chrono::system_clock::now();
                        const absl::Time absl_time = absl::Now();
                        world->clock(0).Jump(-600 * kSecond);
                        EXPECT_EQ(std::chrono::steady_clock::now(), steady);
                        EXPECT_EQ(std::chrono::system_clock::now(),
                                  wall - 10min);
                        EXPECT_EQ(absl::Now(), absl_time - absl::Minutes(10));
                        std::this_thread::sleep_for(1s);
                        EXPECT_EQ(world.now_ns(), kSecond);
                        std::mutex mutex;
                        std::unique_lock lock(mutex);
                        std::condition_variable changed;
                        changed.wait_until(lock, steady + 2s);
                        EXPECT_EQ(world.now_ns(), 2 * kSecond);
                        // This deadline lies in what was the past.
                        changed.wait_until(lock, wall - 10min + 3s);
                        EXPECT_EQ(world.now_ns(), 3 * kSecond);
                        // And whoever kept one from before the jump waits for
                        // long.
                        changed.wait_until(lock, wall + 4s);
                        EXPECT_EQ(world.now_ns(), 604 * kSecond);
                      }),
            Outcome::kFinished);
}

TEST(InterposeClocksTest, ClocksThatDrift) {
  TestWorld world;
  world->clock(0).Drift(500 * kMillisecond);
  ASSERT_EQ(RunAsMain(world,
                      [&] {
                        const auto steady = std::chrono::steady_clock::now();
                        std::this_thread::sleep_for(3s);
                        EXPECT_EQ(world.now_ns(), 2 * kSecond);
                        EXPECT_EQ(std::chrono::steady_clock::now(),
                                  steady + 3s);
                      }),
            Outcome::kFinished);
}

}  // namespace
}  // namespace interpose_clocks_test
