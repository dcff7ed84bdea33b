// What user code gets of libc, libstdc++ and libabsl in a world and outside of
// one. tests/scenarios/std_threads.h has the ordinary uses; here are names,
// ends, crashes and refusals.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <future>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "tests/unit/sim/sim_testing.h"

// Not in the namespace of the project, whose own calls have no places.
namespace interpose_test {
namespace {

using namespace reprise;  // NOLINT(google-build-using-namespace)

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace)

// Runs `body` as the main thread of a worker.
Outcome RunAsMain(TestWorld& world, absl::AnyInvocable<void()> body) {
  world.Start(0, "main", std::move(body));
  return world.Run();
}

void LockBoth(std::mutex& first, std::mutex& second) {
  const std::lock_guard hold_first(first);
  std::this_thread::sleep_for(1ms);
  const std::lock_guard hold_second(second);
}

void StartInversion() {
  std::mutex first;
  std::mutex second;
  std::thread one([&] { LockBoth(first, second); });
  std::thread other([&] { LockBoth(second, first); });
  one.join();
  other.join();
}

TEST(InterposeTest, ReportsOfDeadlocksNameFunctionsAndHolders) {
  TestWorld world;
  // Something else may go on for ever.
  world.Start(1, "timer", [] {
    for (;;) std::this_thread::sleep_for(1s);
  });
  ASSERT_EQ(RunAsMain(world, [] { StartInversion(); }), Outcome::kStopped);
  EXPECT_EQ(world->failed_rule(), "deadlock");
  EXPECT_THAT(
      world->failed_detail(),
      testing::MatchesRegex(
          "w0/thread:StartInversion~1 locks a mutex in LockBoth .*, held by "
          "w0/thread:StartInversion, which locks a mutex in LockBoth .*, held "
          "by w0/thread:StartInversion~1"));
  const std::vector<std::string> lines = world->DescribeFibers();
  const char* const first = "w0/thread:StartInversion";
  const char* const other = "w0/thread:StartInversion~1";
  EXPECT_THAT(lines,
              Contains(AllOf(
                  HasSubstr(std::string(first) + " locks a mutex in LockBoth "
                                                 "(interpose_test.cc:"),
                  HasSubstr(std::string("held by ") + other))));
  EXPECT_THAT(lines, Contains(AllOf(
                         HasSubstr(std::string(other) + " locks a mutex in "),
                         HasSubstr(std::string("held by ") + first))));
  EXPECT_THAT(lines, Contains(HasSubstr("w0/main joins w0/thread:Start")));
}

void WaitForNothing(absl::Mutex& mutex) {
  const absl::MutexLock lock(&mutex);
  bool never = false;
  mutex.Await(absl::Condition(&never));
}

void WaitForNoFuture() {
  std::promise<int> promise;
  promise.get_future().wait();
}

// GCC marks what returns a std::string.
std::string WaitForText() {
  std::promise<std::string> promise;
  return promise.get_future().get();
}

TEST(InterposeTest, NamesAreTheSameUnderEveryCompiler) {
  TestWorld world;
  world.Start(0, "text", [] { WaitForText(); });
  ASSERT_EQ(world.Run(), Outcome::kDeadlock);
  EXPECT_THAT(world->DescribeFibers(),
              Contains(HasSubstr("w0/text waits for another thread in "
                                 "WaitForText (interpose_test.cc:")));
}

TEST(InterposeTest, ReportsNameWaitsBelowLibraries) {
  TestWorld world;
  absl::Mutex mutex;
  world.Start(0, "absl", [&] { WaitForNothing(mutex); });
  world.Start(0, "future", [] { WaitForNoFuture(); });
  ASSERT_EQ(world.Run(), Outcome::kDeadlock);
  EXPECT_THAT(world->DescribeFibers(),
              Contains(HasSubstr("w0/absl waits for another thread in "
                                 "WaitForNothing (interpose_test.cc:")));
  EXPECT_THAT(world->DescribeFibers(),
              Contains(HasSubstr("w0/future waits for another thread in "
                                 "WaitForNoFuture (interpose_test.cc:")));
}

TEST(InterposeTest, LocksAreSitesOfDecisions) {
  bool switched_at_lock = false;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    TestWorld world(With(Policy::kRandom, seed));
    std::mutex first;
    std::mutex second;
    for (const char* name : {"one", "other"}) {
      world.Start(0, name, [&] { LockBoth(first, second); });
    }
    ASSERT_EQ(world.Run(), Outcome::kFinished);
    for (const Decision& decision : world->decisions().kept()) {
      if (decision.site.ends_with(" lock:interpose_test.cc:LockBoth") &&
          decision.kind == DecisionKind::kSwitch) {
        switched_at_lock = true;
      }
    }
  }
  EXPECT_TRUE(switched_at_lock);
}

TEST(InterposeTest, ClocksAndSleepsAreVirtual) {
  TestWorld world;
  std::chrono::nanoseconds slept{};
  absl::Duration wall{};
  RunAsMain(world, [&] {
    const auto start = std::chrono::steady_clock::now();
    const absl::Time wall_start = absl::Now();
    std::this_thread::sleep_for(30min);
    sleep(600);
    absl::SleepFor(absl::Minutes(10));
    slept = std::chrono::steady_clock::now() - start;
    wall = absl::Now() - wall_start;
  });
  EXPECT_EQ(slept, 50min);
  EXPECT_EQ(wall, absl::Minutes(50));
  EXPECT_EQ(world.now_ns(), int64_t{50} * 60 * kSecond);
}

TEST(InterposeTest, YieldsInALoopTakeLongerAndLonger) {
  TestWorld world;
  std::chrono::nanoseconds once{};
  std::chrono::nanoseconds again{};
  int yields = 0;
  RunAsMain(world, [&] {
    const auto start = std::chrono::steady_clock::now();
    std::this_thread::yield();
    once = std::chrono::steady_clock::now() - start;
    std::this_thread::sleep_for(1s);
    const auto before = std::chrono::steady_clock::now();
    std::this_thread::yield();
    again = std::chrono::steady_clock::now() - before;
    while (std::chrono::steady_clock::now() - before < 10s) {
      std::this_thread::yield();
      ++yields;
    }
  });
  EXPECT_EQ(once, 1us);
  EXPECT_EQ(again, 1us);
  EXPECT_LT(yields, 10'100);
}

TEST(InterposeTest, SelectWaitsInVirtualTime) {
  TestWorld world;
  int ready = -1;
  int timed_out = -1;
  RunAsMain(world, [&] {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    std::thread writer([&] {
      std::this_thread::sleep_for(1s);
      ASSERT_EQ(write(ends[1], "x", 1), 1);
    });
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    ready = select(ends[0] + 1, &set, nullptr, nullptr, nullptr);
    EXPECT_TRUE(FD_ISSET(ends[0], &set));
    writer.join();
    timeval second{1, 0};
    timed_out = select(0, nullptr, nullptr, nullptr, &second);
    close(ends[0]);
    close(ends[1]);
  });
  EXPECT_EQ(ready, 1);
  EXPECT_EQ(timed_out, 0);
  EXPECT_GE(world.now_ns(), 2 * kSecond);
}

// What the machine would answer differently each time.
std::string Sources(uint64_t seed) {
  TestWorld world(With(Policy::kRandom, seed));
  std::string text;
  RunAsMain(world, [&] {
    std::thread([&] {
      absl::StrAppend(&text, std::random_device{}(), " ", rand(), " ");
      absl::StrAppend(&text, pthread_self(), " ", gettid(), " ", getpid(), " ");
      absl::StrAppend(&text, std::thread::hardware_concurrency());
    }).join();
  });
  return text;
}

TEST(InterposeTest, RandomNumbersAndIdsDependOnTheSeed) {
  EXPECT_EQ(Sources(1), Sources(1));
  EXPECT_NE(Sources(1), Sources(2));
}

TEST(InterposeTest, SystemCallsAreMadeByTheirCallers) {
  TestWorld world;
  pid_t thread = 0;
  pid_t process = 0;
  RunAsMain(world, [&] {
    thread = gettid();
    process = getpid();
    EXPECT_EQ(syscall(SYS_gettid), thread);
    EXPECT_EQ(syscall(SYS_getpid), process);
  });
  EXPECT_NE(gettid(), thread);
  EXPECT_NE(syscall(SYS_getpid), process);
}

TEST(InterposeTest, SrandSetsTheNodesOwnSequence) {
  TestWorld world;
  int first[2] = {};
  int second[2] = {};
  for (int rank = 0; rank < 2; ++rank) {
    world.Start(rank, "main", [&, rank] {
      srand(7);
      first[rank] = rand();
      std::this_thread::sleep_for(1ms);
      second[rank] = rand();
    });
  }
  ASSERT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(first[0], first[1]);
  EXPECT_EQ(second[0], second[1]);
  EXPECT_NE(first[0], second[0]);
}

TEST(InterposeTest, AThreadThatExitsUnwindsItsStack) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer takes the fiber's stack for the thread's";
#endif
  TestWorld world;
  bool unwound = false;
  void* result = nullptr;
  RunAsMain(world, [&] {
    pthread_t thread{};
    pthread_create(
        &thread, nullptr,
        [](void* flag) -> void* {
          struct Guard {
            bool* flag;
            ~Guard() { *flag = true; }
          } guard{static_cast<bool*>(flag)};
          pthread_exit(&guard.flag[0]);
        },
        &unwound);
    pthread_join(thread, &result);
  });
  EXPECT_TRUE(unwound);
  EXPECT_EQ(result, &unwound);
}

TEST(InterposeTest, JoinsThatTimeOutAndThoseThatAreRefused) {
  TestWorld world;
  std::vector<int> results;
  RunAsMain(world, [&] {
    pthread_t thread{};
    pthread_create(
        &thread, nullptr,
        [](void*) -> void* {
          std::this_thread::sleep_for(2s);
          return nullptr;
        },
        nullptr);
    timespec deadline{};
    clock_gettime(CLOCK_REALTIME, &deadline);
    ++deadline.tv_sec;
    results.push_back(pthread_tryjoin_np(thread, nullptr));
    results.push_back(pthread_timedjoin_np(thread, nullptr, &deadline));
    results.push_back(pthread_join(pthread_self(), nullptr));
    results.push_back(pthread_kill(thread, 0));
    results.push_back(pthread_join(thread, nullptr));
    results.push_back(pthread_join(thread, nullptr));
    results.push_back(pthread_kill(thread, 0));
  });
  EXPECT_THAT(results, testing::ElementsAre(EBUSY, ETIMEDOUT, EDEADLK, 0, 0,
                                            EINVAL, ESRCH));
}

TEST(InterposeTest, AThreadThatNobodyJoinsIsALeak) {
  TestWorld world;
  RunAsMain(world, [] {
    pthread_t thread{};
    pthread_create(
        &thread, nullptr, [](void*) -> void* { return nullptr; }, nullptr);
  });
  EXPECT_EQ(world->failed_rule(), "leak");
  EXPECT_THAT(world->failed_detail(),
              HasSubstr("was neither joined nor detached"));
}

TEST(InterposeTest, DetachedThreadsEndWithTheMainThread) {
  TestWorld world;
  bool went_on = false;
  const Outcome outcome = RunAsMain(world, [&] {
    std::thread([&] {
      std::this_thread::sleep_for(1s);
      went_on = true;
    }).detach();
    std::this_thread::sleep_for(1ms);
  });
  EXPECT_EQ(outcome, Outcome::kFinished);
  EXPECT_FALSE(went_on);
  EXPECT_FALSE(world->clean());  // It may have left anything behind.
}

TEST(InterposeTest, AThreadThatCannotBeStarted) {
  TestWorld world;
  int refused = 0;
  bool has_run = false;
  world.Start(0, "main", [&] {
    Shortage& threads = world.node(0).threads;
    threads = {.until_ns = 5'000'000, .on_strike = [&refused] { ++refused; }};
    try {
      std::thread([] {}).join();
      ADD_FAILURE() << "it was started";
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), std::errc::resource_unavailable_try_again);
    }
    std::this_thread::sleep_for(5ms);
    std::thread([&has_run] { has_run = true; }).join();
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(refused, 1);
  EXPECT_TRUE(has_run);
}

TEST(InterposeTest, KeysHaveAValueForEachFiber) {
  static std::atomic<int> destroyed;
  destroyed = 0;
  pthread_key_t key{};
  ASSERT_EQ(pthread_key_create(&key, [](void*) { ++destroyed; }), 0);
  pthread_setspecific(key, &key);
  TestWorld world;
  for (int i = 0; i < 2; ++i) {
    world.Start(0, "fiber", [&] {
      EXPECT_EQ(pthread_getspecific(key), nullptr);
      int mine = 0;
      pthread_setspecific(key, &mine);
      std::this_thread::sleep_for(1ms);
      EXPECT_EQ(pthread_getspecific(key), &mine);
    });
  }
  world.Run();
  EXPECT_EQ(destroyed, 2);
  EXPECT_EQ(pthread_getspecific(key), &key);
  pthread_setspecific(key, nullptr);
  pthread_key_delete(key);
}

// Holds `mutex`, which outlives the run, on w0 until it crashes at 1 s, and
// returns when w1 had it.
template <typename Mutex>
int64_t TimeOfTheHeir(Mutex& mutex) {
  TestWorld world;
  int64_t taken_ns = -1;
  world.Start(0, "main", [&] {
    const std::lock_guard lock(mutex);
    std::this_thread::sleep_for(1h);
  });
  world.Start(1, "main", [&] {
    std::this_thread::sleep_for(1ms);
    const std::lock_guard lock(mutex);
    taken_ns = world.now_ns();
  });
  world->At(kSecond, {}, [&] { world->Crash(world.node(0)); });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  return taken_ns;
}

TEST(InterposeTest, ACrashFreesWhatTheDeadHeld) {
  static std::mutex mutex;
  EXPECT_EQ(TimeOfTheHeir(mutex), kSecond);
  static std::recursive_mutex recursive;
  EXPECT_EQ(TimeOfTheHeir(recursive), kSecond);
  static std::shared_mutex shared;
  EXPECT_EQ(TimeOfTheHeir(shared), kSecond);
}

TEST(InterposeTest, WhatAnEarlierRunHeldIsFree) {
  static std::mutex mutex;
  static std::shared_mutex shared;
  for (int run = 0; run < 2; ++run) {
    TestWorld world;
    bool taken = false;
    world.Start(0, "main", [&] {
      mutex.lock();
      shared.lock();
      taken = true;
      std::promise<void>().get_future().wait();
    });
    EXPECT_EQ(world.Run(), Outcome::kDeadlock);
    EXPECT_TRUE(taken);
  }
  // A real thread may have them, too.
  EXPECT_TRUE(shared.try_lock());
  shared.unlock();
}

TEST(InterposeTest, RealThreadsAreNotTouched) {
  std::mutex mutex;
  std::condition_variable changed;
  bool go = false;
  pthread_t id_inside{};
  std::chrono::steady_clock::time_point real_time;
  std::thread real([&] {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return go; });
    id_inside = pthread_self();
    real_time = std::chrono::steady_clock::now();
  });
  const pthread_t id = real.native_handle();
  TestWorld world;
  std::chrono::steady_clock::time_point virtual_time;
  RunAsMain(world, [&] {
    std::this_thread::sleep_for(1h);
    virtual_time = std::chrono::steady_clock::now();
  });
  {
    const std::lock_guard lock(mutex);
    go = true;
  }
  changed.notify_one();
  real.join();
  EXPECT_EQ(id, id_inside);
  EXPECT_EQ(virtual_time.time_since_epoch(), 1h + 1000s);
  EXPECT_NE(real_time, virtual_time);
}

}  // namespace
}  // namespace interpose_test
