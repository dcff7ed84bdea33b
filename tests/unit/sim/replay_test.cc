// A run is a function of its seed, and of the decisions that were recorded.

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/runtime/mutex.h"
#include "gtest/gtest.h"
#include "sim/world/decision.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {
namespace {

struct Ran {
  uint64_t hash = 0;
  int64_t num_events = 0;
  std::vector<Decision> decisions;
  std::string first_mismatch;
  std::vector<int> order;
};

// Producers and consumers on two nodes, with sleeps and a crash.
Ran RunWith(const WorldOptions& options, const char* lock_name = "queue") {
  Ran ran;
  TestWorld world(options);
  struct Machine {
    Machine(Runtime& runtime, const char* lock_name)
        : mutex(runtime, lock_name), cond(runtime, "changed") {}
    Mutex mutex;
    CondVar cond;
    std::vector<int> queue;
  };
  std::vector<std::unique_ptr<Machine>> machines;
  for (int rank = 0; rank < 2; ++rank) {
    Runtime& runtime = world.runtime(rank);
    machines.push_back(std::make_unique<Machine>(runtime, lock_name));
    Machine& machine = *machines.back();
    for (int p = 0; p < 3; ++p) {
      world.Start(rank, "producer", [&, p, rank] {
        for (int i = 0; i < 5; ++i) {
          runtime.SleepUntil(runtime.Now() + absl::Microseconds(50 * p));
          MutexLock lock(machine.mutex);
          machine.queue.push_back(100 * rank + 10 * p + i);
          machine.cond.NotifyOne();
        }
      });
    }
    for (int c = 0; c < 2; ++c) {
      world.Start(rank, "consumer", [&] {
        for (;;) {
          MutexLock lock(machine.mutex);
          const absl::Time deadline = runtime.Now() + absl::Milliseconds(2);
          while (machine.queue.empty()) {
            if (!machine.cond.WaitUntil(machine.mutex, deadline)) return;
          }
          ran.order.push_back(machine.queue.back());
          machine.queue.pop_back();
        }
      });
    }
  }
  world->At(200 * kMicrosecond, {7, 0}, [&] { world->Crash(world.node(1)); });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  ran.hash = world->trace().hash();
  ran.num_events = world->trace().num_events();
  ran.decisions = world->decisions().kept();
  ran.first_mismatch = world->decisions().FirstMismatch();
  return ran;
}

class ReplayTest : public testing::TestWithParam<Policy> {};

INSTANTIATE_TEST_SUITE_P(All, ReplayTest, testing::ValuesIn(kPolicies));

TEST_P(ReplayTest, TheSameSeedIsTheSameRun) {
  std::vector<Ran> runs;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    runs.push_back(RunWith(With(GetParam(), seed)));
  }
  // The same runs again, in the other order and at other addresses.
  std::vector<std::unique_ptr<char[]>> ballast;
  for (uint64_t seed = 30; seed >= 1; --seed) {
    ballast.push_back(std::make_unique<char[]>(seed * 37));
    const Ran again = RunWith(With(GetParam(), seed));
    EXPECT_EQ(again.hash, runs[seed - 1].hash);
    EXPECT_EQ(again.num_events, runs[seed - 1].num_events);
    EXPECT_EQ(again.order, runs[seed - 1].order);
  }
}

TEST_P(ReplayTest, SeedsDiffer) {
  if (GetParam() == Policy::kCooperative) return;  // Nothing is drawn.
  std::set<uint64_t> hashes;
  std::set<std::vector<int>> orders;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    const Ran ran = RunWith(With(GetParam(), seed));
    hashes.insert(ran.hash);
    orders.insert(ran.order);
  }
  EXPECT_EQ(hashes.size(), 50u);
  EXPECT_GT(orders.size(), 25u);
}

TEST_P(ReplayTest, KeepingChangesNothing) {
  WorldOptions options = With(GetParam(), 5);
  const uint64_t kept = RunWith(options).hash;
  options.keep_trace = false;
  EXPECT_EQ(RunWith(options).hash, kept);
}

TEST_P(ReplayTest, RecordedDecisionsAreTheSameRun) {
  size_t decisions = 0;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    const Ran ran = RunWith(With(GetParam(), seed));
    decisions += ran.decisions.size();
    // The decisions go through text, as in a replay file.
    std::vector<Decision> recording;
    for (const Decision& decision : ran.decisions) {
      auto parsed = Decision::Parse(decision.ToString());
      ASSERT_TRUE(parsed.has_value()) << decision.ToString();
      recording.push_back(*std::move(parsed));
    }
    // The schedule does not matter, as nothing is drawn.
    for (const Policy policy : kPolicies) {
      WorldOptions options = With(policy, seed);
      options.recording = &recording;
      const Ran replayed = RunWith(options);
      EXPECT_EQ(replayed.hash, ran.hash) << "seed " << seed;
      EXPECT_EQ(replayed.order, ran.order);
      EXPECT_EQ(replayed.first_mismatch, "");
    }
  }
  if (GetParam() == Policy::kCooperative) {
    EXPECT_EQ(decisions, 0u);
  } else {
    EXPECT_GT(decisions, 300u);
  }
}

TEST_P(ReplayTest, AnEmptyRecordingIsTheCooperativeRun) {
  const std::vector<Decision> nothing;
  WorldOptions options = With(GetParam(), 3);
  options.recording = &nothing;
  EXPECT_EQ(RunWith(options).hash, RunWith(With(Policy::kCooperative, 3)).hash);
}

TEST_P(ReplayTest, OneDecisionMoreIsAnotherRun) {
  const Ran ran = RunWith(With(GetParam(), 1));
  std::vector<Decision> recording = ran.decisions;
  recording.push_back(
      *Decision::Parse("w0/producer [start] lock:queue#1 stall 12345"));
  if (ran.decisions.size() > 1) recording.erase(recording.begin());
  WorldOptions options = With(GetParam(), 1);
  options.recording = &recording;
  EXPECT_NE(RunWith(options).hash, ran.hash);
}

TEST_P(ReplayTest, TheFirstMismatchIsNamedWhenALabelChanges) {
  if (GetParam() == Policy::kCooperative) return;
  const Ran ran = RunWith(With(GetParam(), 2));
  WorldOptions options = With(GetParam(), 2);
  options.recording = &ran.decisions;
  const Ran changed = RunWith(options, "renamed");
  std::string first;
  for (const Decision& decision : ran.decisions) {
    if (decision.site.find("lock:queue") != std::string::npos) {
      first = decision.ToString();
      break;
    }
  }
  ASSERT_NE(first, "");
  EXPECT_NE(changed.first_mismatch, "");
  // It is that decision, or an earlier one that could not be reached without
  // it.
  size_t at_first = 0;
  size_t at_mismatch = ran.decisions.size();
  for (size_t i = 0; i < ran.decisions.size(); ++i) {
    const std::string line = ran.decisions[i].ToString();
    if (line == first) at_first = i;
    if (line == changed.first_mismatch) at_mismatch = i;
  }
  EXPECT_LE(at_mismatch, at_first);
}

TEST(WorldReplayTest, AFiberThatCannotRunIsAMismatch) {
  const std::vector<Decision> recording = {
      *Decision::Parse("world run#1 next w0/nobody")};
  WorldOptions options = With(Policy::kRandom);
  options.recording = &recording;
  EXPECT_EQ(RunWith(options).first_mismatch, "world run#1 next w0/nobody");
}

TEST(WorldReplayTest, WorldsOnSeveralOsThreadsDoNotMeet) {
  constexpr int kSeeds = 40;
  std::vector<uint64_t> alone;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    alone.push_back(RunWith(With(Policy::kRandom, seed)).hash);
  }
  constexpr int kThreads = 3;
  std::vector<std::vector<uint64_t>> together(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
        together[t].push_back(RunWith(With(Policy::kRandom, seed)).hash);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& hashes : together) EXPECT_EQ(hashes, alone);
}

// A new draw at one site must not shift those of the others, and one more visit
// of a thread must not shift those of other threads.
TEST(WorldReplayTest, OneMoreVisitOfALockShiftsNoOtherThread) {
  std::vector<std::vector<std::string>> stalls(2);
  for (const bool more : {false, true}) {
    WorldOptions options = With(Policy::kRandom, 12);
    options.schedule.switch_probability = 0;
    options.schedule.stall_probability = 0.5;
    TestWorld world(options);
    Mutex mutex(world.runtime(0), "m");
    world.Start(0, "more", [&] {
      if (more) MutexLock lock(mutex);
    });
    for (const char* name : {"a", "b"}) {
      world.Start(0, name, [&] {
        for (int i = 0; i < 30; ++i) MutexLock lock(mutex);
      });
    }
    EXPECT_EQ(world.Run(), Outcome::kFinished);
    for (const Decision& decision : world->decisions().kept()) {
      if (decision.kind == DecisionKind::kStall &&
          !decision.site.starts_with("w0/more ")) {
        stalls[more].push_back(decision.ToString());
      }
    }
    std::sort(stalls[more].begin(), stalls[more].end());
  }
  EXPECT_GT(stalls[0].size(), 20u);
  EXPECT_EQ(stalls[0], stalls[1]);
}

// What a thread does in one section does not shift its other sections.
TEST(WorldReplayTest, OneMoreVisitOfALockShiftsNoOtherCall) {
  std::vector<std::vector<std::string>> stalls(2);
  for (const bool more : {false, true}) {
    WorldOptions options = With(Policy::kRandom, 13);
    options.schedule.switch_probability = 0;
    options.schedule.stall_probability = 0.5;
    TestWorld world(options);
    world.Start(0, "main", [&] {
      Mutex mutex(world.runtime(0), "m");
      for (uint64_t call = 1; call <= 20; ++call) {
        world->Record(&world.node(0),
                      {.kind = EventKind::kCallStarted, .id = call, .rank = 1});
        for (int i = 0; i < 5; ++i) MutexLock lock(mutex);
        if (more && call == 3) MutexLock lock(mutex);
      }
    });
    EXPECT_EQ(world.Run(), Outcome::kFinished);
    for (const Decision& decision : world->decisions().kept()) {
      if (decision.kind != DecisionKind::kStall) continue;
      if (decision.site == "w0/main [call w1 3] lock:m") continue;
      stalls[more].push_back(decision.ToString());
    }
  }
  EXPECT_GT(stalls[0].size(), 20u);
  EXPECT_EQ(stalls[0], stalls[1]);
}

TEST(WorldReplayTest, ALockMoreOnOneNodeShiftsNothingOnAnother) {
  std::vector<std::vector<std::string>> stalls(2);
  for (const bool more : {false, true}) {
    WorldOptions options = With(Policy::kRandom, 11);
    options.schedule.switch_probability = 0;
    options.schedule.stall_probability = 0.5;
    TestWorld world(options);
    for (int rank = 0; rank < 2; ++rank) {
      world.Start(rank, "main", [&, rank] {
        Mutex mutex(world.runtime(rank), "m");
        Mutex extra(world.runtime(rank), "extra");
        for (int i = 0; i < 50; ++i) {
          if (more && rank == 0) MutexLock lock(extra);
          MutexLock lock(mutex);
        }
      });
    }
    EXPECT_EQ(world.Run(), Outcome::kFinished);
    for (const Decision& decision : world->decisions().kept()) {
      if (decision.kind == DecisionKind::kStall &&
          decision.site.find("extra") == std::string::npos) {
        stalls[more].push_back(decision.ToString());
      }
    }
    std::sort(stalls[more].begin(), stalls[more].end());
  }
  EXPECT_GT(stalls[0].size(), 20u);
  EXPECT_EQ(stalls[0], stalls[1]);
}

}  // namespace
}  // namespace reprise
