// Nothing that a run does gets away: whatever ends its process, or keeps it
// from ending, is a failure with a seed, a story, stacks and a replay.

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "agent/agent.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sim/explore/explore.h"
#include "sim/explore/isolated_run.h"
#include "sim/explore/result_log.h"
#include "sim/explore/signature.h"
#include "sim/interpose/debug_information.h"
#include "sim/world/arena.h"
#include "tests/unit/explore/killers.h"

// Outside of the project's namespace, as the code of users.
namespace user {

[[gnu::noinline]] void LockAndUnlock() {
  std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
}

}  // namespace user

namespace reprise {
namespace {

using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

ExploreOptions OptionsFor(const Scenario& scenario, uint64_t num_seeds) {
  ExploreOptions options;
  options.run.scenario = &scenario;
  options.run.params = scenario.params;
  options.run.max_wall_seconds = 0.5;
  options.num_seeds = num_seeds;
  options.shrink_seconds = 0.3;
  return options;
}

SimRunOptions ReplayOf(const ReplayFile& file, const Scenario& scenario) {
  SimRunOptions run;
  run.scenario = &scenario;
  run.params = file.params;
  run.seed = file.seed;
  run.faults = file.faults;
  run.recording = &file.decisions;
  run.keep_trace = true;
  run.max_wall_seconds = 0.5;
  return run;
}

class KillerTest : public testing::TestWithParam<Killer> {};

TEST_P(KillerTest, IsAFailureThatIsKeptAndHappensAgain) {
  const Killer& killer = GetParam();
  const Scenario scenario = ScenarioOf(killer);
  const absl::StatusOr<ExploreResult> result = Explore(OptionsFor(scenario, 3));
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->failures.size(), 1u);
  const ExploreFailure& failure = result->failures.front();
  EXPECT_FALSE(failure.not_deterministic) << failure.replay.detail;
  EXPECT_EQ(failure.replay.seed, 1u);
  EXPECT_EQ(failure.replay.rule, killer.rule);
  EXPECT_THAT(failure.replay.detail, HasSubstr(killer.detail));
  EXPECT_THAT(absl::StrJoin(failure.story, "\n"), HasSubstr("calls w0"));
  EXPECT_THAT(absl::StrJoin(failure.stacks, "\n"), HasSubstr(killer.stack));

  const absl::StatusOr<ReplayFile> file =
      ParseReplay(FormatReplay(failure.replay));
  ASSERT_TRUE(file.ok()) << file.status();
  const absl::StatusOr<RunResult> again =
      RunIsolated(ReplayOf(*file, scenario));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->rule, killer.rule);
  EXPECT_EQ(again->hash, file->hash);
  EXPECT_EQ(again->first_mismatch, "");
}

INSTANTIATE_TEST_SUITE_P(All, KillerTest, testing::ValuesIn(Killers()),
                         [](const auto& info) { return info.param.name; });

// A counter that child processes count up, too.
class SharedCounter {
 public:
  SharedCounter()
      : count_(new (mmap(nullptr, sizeof(std::atomic<int>),
                         PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                         0)) std::atomic<int>(0)) {}
  std::atomic<int>& operator*() { return *count_; }

 private:
  std::atomic<int>* const count_;
};

// Of the scenario, each in a process of its own.
void RunTimes(int times, const Scenario& scenario) {
  for (int i = 0; i < times; ++i) {
    SimRunOptions run;
    run.scenario = &scenario;
    run.params = scenario.params;
    const absl::StatusOr<RunResult> result = RunIsolated(run);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_TRUE(result->held()) << result->detail;
  }
}

void CallAndEnd(Worker& worker) {
  auto agent = Agent::Start(
      worker.environment(), worker.options(),
      [](Message request, const RequestInfo&, Reply reply) {
        reply(std::move(request));
      },
      worker.In(absl::Seconds(10)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  for (int i = 0; i < 10; ++i) {
    Message request;
    request.type = MessageType::kScriptCall;
    request.payload = std::string(1000, 'x');
    (*agent)->Send(worker.NameOf(1 - worker.rank()), std::move(request));
  }
  // Without waiting for the calls.
  (void)(*agent)->Shutdown(worker.In(absl::ZeroDuration()));
}

// It comes first: what the process has read is there for its children.
TEST(DebugInformationTest, TheAgentAndTensorPipeNeedNone) {
  const Scenario scenario = {.name = "agent", .workers = 2, .body = CallAndEnd};
  // In some seeds an end waits for TensorPipe by a std::future.
  const absl::StatusOr<ExploreResult> result =
      Explore(OptionsFor(scenario, 100));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->failures.empty());
  EXPECT_EQ(interpose::NumReadsOfDebugInformation(), 0);
}

TEST(DebugInformationTest, IsReadByTheFirstChildThatNeedsItAndByItsParent) {
  const Scenario scenario = {.name = "locks",
                             .workers = 1,
                             .body = [](Worker&) { user::LockAndUnlock(); }};
  RunTimes(1, scenario);
  EXPECT_EQ(interpose::NumReadsOfDebugInformation(), 1);
  RunTimes(3, scenario);
  EXPECT_EQ(interpose::NumReadsOfDebugInformation(), 2);
}

TEST(IsolationTest, ARunExecutesTheBodyOnce) {
  SharedCounter bodies;
  const Scenario scenario = {
      .name = "count", .workers = 3, .body = [&](Worker&) { ++*bodies; }};
  SimRunOptions run;
  run.scenario = &scenario;
  const absl::StatusOr<RunResult> result = RunIsolated(run);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->held()) << result->detail;
  EXPECT_EQ(*bodies, 3);
}

// Two processes have the same memory elsewhere.
TEST(IsolationTest, AnAddressThatIsNotOfTheFirstPagesIsLeftOut) {
  const Scenario scenario = {.name = "wild", .workers = 1, .body = [](Worker&) {
                               void* const memory =
                                   mmap(nullptr, 4096, PROT_NONE,
                                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                               *static_cast<volatile char*>(memory) = 1;
                             }};
  SimRunOptions run;
  run.scenario = &scenario;
  const absl::StatusOr<RunResult> result = RunIsolated(run);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "crash");
  EXPECT_THAT(result->detail, HasSubstr("SIGSEGV; in "));
}

// It is found after so much CPU time, and events happen meanwhile.
TEST(IsolationTest, AHangNeedNotHaveTheSameHashAgain) {
  const Scenario scenario = {
      .name = "busy", .workers = 1, .body = [](Worker& worker) {
        for (;;) {
          worker.Note("goes round");
          for (int i = 0; i < 20'000; ++i) asm volatile("");
        }
      }};
  const absl::StatusOr<ExploreResult> result = Explore(OptionsFor(scenario, 1));
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->failures.size(), 1u);
  EXPECT_EQ(result->failures[0].replay.rule, "hang");
  EXPECT_FALSE(result->failures[0].not_deterministic)
      << result->failures[0].replay.detail;
}

TEST(IsolationTest, AllBlockedFibersAreInTheStacks) {
  const Scenario scenario = {
      .name = "blocked", .workers = 3, .body = [](Worker& worker) {
        worker.Sleep(absl::Seconds(worker.rank() == 0 ? 1 : 5));
        std::abort();
      }};
  SimRunOptions run;
  run.scenario = &scenario;
  const absl::StatusOr<RunResult> result = RunIsolated(run);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "crash");
  const std::string stacks = absl::StrJoin(result->stacks, "\n");
  EXPECT_THAT(stacks, HasSubstr("w0/main was running"));
  if (!kHasArena) return;  // a sanitizer does not let us look
  EXPECT_THAT(stacks, HasSubstr("w1/main sleeps"));
  EXPECT_THAT(stacks, HasSubstr("w2/main sleeps"));
  EXPECT_THAT(stacks, HasSubstr("reprise::SimRuntime::SleepUntil"));
}

// Dies in some seeds only, in two ways.
void DieSometimes(Worker& worker) {
  const uint64_t fate = worker.random("fate").Below("fate", 12);
  worker.Sleep(absl::Milliseconds(1));
  if (worker.rank() != 0) return;
  if (fate < 3) std::abort();
  if (fate == 3) throw std::runtime_error("rare");
}

const Scenario& SometimesScenario() {
  static const Scenario scenario = {
      .name = "sometimes", .workers = 2, .body = DieSometimes};
  return scenario;
}

std::string Summary(const ExploreResult& result) {
  std::string text = absl::StrCat(result.seeds, " seeds, ", result.events,
                                  " events, ", result.failed_seeds, " failed");
  for (const ExploreFailure& failure : result.failures) {
    absl::StrAppend(&text, "\n", failure.signature, " ", failure.replay.seed,
                    " ", failure.count, ": ",
                    absl::StrJoin(failure.other_seeds, ","));
  }
  return text;
}

TEST(IsolationTest, FailuresAreGroupedWhateverTheNumberOfJobs) {
  ExploreOptions options = OptionsFor(SometimesScenario(), 60);
  options.keep_going = true;
  const absl::StatusOr<ExploreResult> one = Explore(options);
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->seeds, 60);
  ASSERT_EQ(one->failures.size(), 2u) << Summary(*one);
  EXPECT_EQ(one->failures[0].count + one->failures[1].count, one->failed_seeds);
  EXPECT_GT(one->failed_seeds, 2);
  options.jobs = 4;
  const absl::StatusOr<ExploreResult> four = Explore(options);
  ASSERT_TRUE(four.ok()) << four.status();
  EXPECT_EQ(Summary(*one), Summary(*four));
  options.keep_going = false;
  const absl::StatusOr<ExploreResult> first = Explore(options);
  options.jobs = 1;
  const absl::StatusOr<ExploreResult> first_of_one = Explore(options);
  ASSERT_TRUE(first.ok() && first_of_one.ok());
  EXPECT_EQ(Summary(*first), Summary(*first_of_one));
  EXPECT_EQ(first->failed_seeds, 1);
}

TEST(IsolationTest, AFailureIsKeptBeforeTheNextSeedBegins) {
  SharedCounter bodies;
  const Scenario scenario = {
      .name = "kept", .workers = 1, .body = [&](Worker& worker) {
        ++*bodies;
        worker.Check(false, "never", "it is to fail");
      }};
  ExploreOptions options = OptionsFor(scenario, 10);
  options.keep_going = true;
  std::vector<int> bodies_when_found;
  std::vector<uint64_t> found;
  options.found = [&](const ExploreFailure& failure) {
    bodies_when_found.push_back(*bodies);
    found.push_back(failure.replay.seed);
    return absl::OkStatus();
  };
  const absl::StatusOr<ExploreResult> result = Explore(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->failures.size(), 1u);
  EXPECT_EQ(result->failures[0].count, 10);
  EXPECT_THAT(found, ElementsAre(1, 1)) << "once, and again when it is small";
  // The seed itself, and the run that keeps everything.
  EXPECT_EQ(bodies_when_found[0], 2);
}

TEST(IsolationTest, AnInterruptKeepsWhatWasFound) {
  ExploreOptions options = OptionsFor(SometimesScenario(), 100'000);
  options.keep_going = true;
  bool stop = false;
  options.found = [&](const ExploreFailure&) {
    stop = true;
    return absl::OkStatus();
  };
  options.interrupted = [&] { return stop; };
  const absl::StatusOr<ExploreResult> result = Explore(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->was_interrupted);
  EXPECT_THAT(result->stopped, HasSubstr("of 100000 seeds run"));
  EXPECT_FALSE(result->failures.empty());
  EXPECT_LT(result->seeds, 100'000);
}

TEST(IsolationTest, ABudgetInSecondsStopsAndSaysSo) {
  const Scenario scenario = {
      .name = "holds", .workers = 1, .body = [](Worker&) {}};
  ExploreOptions options = OptionsFor(scenario, 100'000'000);
  options.max_seconds = 0.05;
  const absl::StatusOr<ExploreResult> result = Explore(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->was_interrupted);
  EXPECT_THAT(result->stopped, HasSubstr("stopped after 0.05 s"));
}

std::map<int, std::string>& LateStatic() {
  static std::map<int, std::string> late = {{1, std::string(100, 'a')},
                                            {2, std::string(100, 'b')}};
  return late;
}

TEST(IsolationTest, AStaticThatIsFirstTouchedInALateRunSurvives) {
  const Scenario scenario = {
      .name = "late_static", .workers = 2, .body = [](Worker& worker) {
        // Not in the first runs of a process.
        static int runs = 0;
        if (++runs < 6) return;
        worker.Sleep(absl::Milliseconds(1));
        worker.Check(LateStatic().at(2) == std::string(100, 'b'), "static",
                     "it was lost");
      }};
  const absl::StatusOr<ExploreResult> result =
      Explore(OptionsFor(scenario, 300));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->seeds, 300);
  EXPECT_TRUE(result->failures.empty()) << Summary(*result);
}

TEST(IsolationTest, WhatAStaticKeepsFromRunToRunIsReported) {
  const Scenario scenario = {
      .name = "kept_static", .workers = 1, .body = [](Worker& worker) {
        static int runs = 0;
        worker.Check(++runs < 5, "fifth", "every fifth run of a process");
      }};
  const absl::StatusOr<ExploreResult> result = Explore(OptionsFor(scenario, 9));
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->failures.size(), 1u);
  EXPECT_TRUE(result->failures[0].not_deterministic);
  EXPECT_THAT(result->failures[0].replay.detail,
              HasSubstr("a static keeps something from run to run"));
}

// Whether the world knows of real mutexes or not.
TEST(IsolationTest, ADeadlockOfAStandardMutexIsFound) {
  const Scenario scenario = {
      .name = "mutex", .workers = 1, .body = [](Worker&) {
        static std::mutex mutex;
        mutex.lock();
        mutex.lock();
      }};
  const absl::StatusOr<ExploreResult> result = Explore(OptionsFor(scenario, 1));
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->failures.size(), 1u);
  EXPECT_THAT(result->failures[0].replay.rule, AnyOf("hang", "deadlock"));
}

TEST(IsolationTest, TheStackOfAFiberIsAsLargeAsItIsAskedFor) {
  const auto big = std::find_if(
      Killers().begin(), Killers().end(), [](const Killer& killer) {
        return killer.name == "overflow_by_a_large_local";
      });
  const Scenario scenario = ScenarioOf(*big);
  SimRunOptions run;
  run.scenario = &scenario;
  run.stack_bytes = size_t{1} << 20;
  const absl::StatusOr<RunResult> result = RunIsolated(run);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->held()) << result->rule << ": " << result->detail;
}

TEST(IsolationTest, AResultComesThroughAsItIs) {
  const Scenario& scenario = SometimesScenario();
  for (uint64_t seed = 1; seed < 10; ++seed) {
    SimRunOptions run;
    run.scenario = &scenario;
    run.keep_trace = true;
    run.seed = seed;
    const absl::StatusOr<RunResult> isolated = RunIsolated(run);
    ASSERT_TRUE(isolated.ok()) << isolated.status();
    if (!isolated->held()) continue;
    const absl::StatusOr<RunResult> here = RunSimulated(run);
    ASSERT_TRUE(here.ok()) << here.status();
    EXPECT_EQ(here->hash, isolated->hash);
    EXPECT_EQ(here->num_points, isolated->num_points);
    ASSERT_EQ(here->events.size(), isolated->events.size());
    for (size_t i = 0; i < here->events.size(); ++i) {
      EXPECT_EQ(ToString(here->events[i]), ToString(isolated->events[i]));
    }
    ASSERT_EQ(here->decisions.size(), isolated->decisions.size());
  }
}

TEST(SignatureTest, LeavesOutNumbersAndAddresses) {
  EXPECT_EQ(SignatureOf("leak", "12 allocations at 0xff12 of w1"),
            "leak: # allocations at # of w#");
  EXPECT_EQ(SignatureOf("leak", ""), "leak");
}

TEST(SignatureTest, AHangIsTheSameByWhicheverBoundItIsFound) {
  const auto hang = [](std::string detail) {
    RunResult run;
    run.rule = "hang";
    run.detail = std::move(detail);
    return run;
  };
  const RunResult found =
      hang("w1/main: the run used 60 s of CPU time; in Loop() < Serve()");
  EXPECT_TRUE(IsSameFailure(
      found, hang("w1/main: nothing happened in 2 s of CPU time; in Serve()")));
  EXPECT_FALSE(IsSameFailure(
      found, hang("w1/main: nothing happened in 2 s of CPU time; in Other()")));
}

TEST(SharedLogTest, AnEntryThatDoesNotFitIsNotSeen) {
  absl::StatusOr<std::unique_ptr<SharedLog>> log = SharedLog::Make(4096);
  ASSERT_TRUE(log.ok()) << log.status();
  RunResult small;
  small.rule = "rule";
  small.injections["crash"] = 3;
  small.probes = {"a", "b"};
  small.sim_seconds = 1.5;
  EXPECT_TRUE(WriteResult(**log, 7, small));
  RunResult large = small;
  large.detail = std::string(5000, 'x');
  EXPECT_FALSE(WriteResult(**log, 8, large));
  EXPECT_TRUE(WriteResult(**log, 9, small));
  for (const uint64_t expected : {7, 9}) {
    ASSERT_EQ((*log)->Next(), kResultEntry);
    uint64_t tag = 0;
    const RunResult read = ReadResult(**log, tag);
    EXPECT_EQ(tag, expected);
    EXPECT_EQ(read.rule, "rule");
    EXPECT_EQ(read.injections, small.injections);
    EXPECT_EQ(read.probes, small.probes);
    EXPECT_EQ(read.sim_seconds, 1.5);
  }
  EXPECT_EQ((*log)->Next(), 0);
}

// Foreign code may have statics and `thread_local`s, and may keep what it has.
TEST(ForeignCodeTest, HasAProcessForEachSeedThreadsOfItsOwnAndNoLeaks) {
  Scenario scenario;
  scenario.name = "foreign";
  scenario.workers = 2;
  scenario.foreign_code = true;
  scenario.body = [](Worker& worker) {
    static int runs = 0;
    thread_local int users = 0;
    ++users;
    worker.Sleep(absl::Milliseconds(1));
    worker.Check(users == 1, "thread-local", "shared by two threads");
    if (worker.rank() == 0) {
      worker.Check(++runs == 1, "static", "left by an earlier run");
      [[maybe_unused]] static auto* kept = new int(1);
      kept = new int(2);
    }
  };
  const absl::StatusOr<ExploreResult> result =
      Explore(OptionsFor(scenario, 30));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->seeds, 30);
  for (const ExploreFailure& failure : result->failures) {
    ADD_FAILURE() << failure.replay.rule << ": " << failure.replay.detail;
  }
}

}  // namespace
}  // namespace reprise
