// A program explores, shrinks and verifies a scenario by calling the library,
// without the command.

#include "sim/explore/explore.h"

#include <fstream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sim/explore/replay_file.h"
#include "sim/explore/shrink.h"
#include "sim/explore/sim_run.h"
#include "sim/explore/verify.h"
#include "sim/scenario/scenario.h"
#include "sim/view/story.h"

namespace reprise {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

// w1 calls w0 once. The rule `prompt` fails when the call takes `bound_us`.
void CallOnce(Worker& worker) {
  auto agent =
      Agent::Start(worker.environment(), worker.options(),
                   Blocking([](Message message,
                               const RequestInfo&) -> absl::StatusOr<Message> {
                     message.type = MessageType::kScriptRet;
                     return message;
                   }),
                   worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "started")) return;
  if (worker.rank() == 1) {
    const absl::Time begun = worker.runtime().Now();
    Message request;
    request.type = MessageType::kScriptCall;
    (*agent)->Note("it begins");
    (*agent)->Send("w0", std::move(request), {.label = "push"}).Wait();
    worker.environment().observer->OnNote("it is over");
    worker.Check(worker.runtime().Now() - begun <
                     absl::Microseconds(worker.param("bound_us")),
                 "prompt", "the call took too long");
  }
  (*agent)->JoinForShutdown(worker.In(absl::Minutes(1))).IgnoreError();
  (*agent)->Shutdown(worker.In(absl::Minutes(1))).IgnoreError();
}

const Scenario& CallOnceScenario() {
  static const Scenario scenario = {.name = "call_once",
                                    .workers = 2,
                                    .params = {{"bound_us", 1'000'000}},
                                    .body = CallOnce};
  return scenario;
}

SimRunOptions RunOptions(int64_t bound_us) {
  SimRunOptions options;
  options.scenario = &CallOnceScenario();
  options.params = {{"bound_us", bound_us}};
  return options;
}

TEST(ExploreTest, AScenarioThatHoldsHasNoFailures) {
  ExploreOptions options;
  options.run = RunOptions(1'000'000);
  options.num_seeds = 20;
  const absl::StatusOr<ExploreResult> result = Explore(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->seeds, 20);
  EXPECT_TRUE(result->failures.empty());
}

TEST(ExploreTest, AFailureIsFoundAndItsReplayFileFailsAgain) {
  ExploreOptions options;
  options.run = RunOptions(1);
  options.num_seeds = 20;
  const absl::StatusOr<ExploreResult> result = Explore(options);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->failures.size(), 1u);
  const ExploreFailure& failure = result->failures.front();
  EXPECT_EQ(failure.replay.rule, "prompt");
  EXPECT_FALSE(failure.story.empty());

  const absl::StatusOr<ReplayFile> read =
      ParseReplay(FormatReplay(failure.replay));
  ASSERT_TRUE(read.ok()) << read.status();
  SimRunOptions again = RunOptions(read->params.at("bound_us"));
  again.seed = read->seed;
  again.faults = read->faults;
  again.recording = &read->decisions;
  const absl::StatusOr<RunResult> replayed = RunSimulated(again);
  ASSERT_TRUE(replayed.ok()) << replayed.status();
  EXPECT_EQ(replayed->rule, "prompt");
  EXPECT_EQ(replayed->hash, read->hash);
}

TEST(ExploreTest, ShrinkKeepsTheRuleAndDropsDecisions) {
  SimRunOptions options = RunOptions(1);
  options.keep_trace = true;
  options.schedule.policy = Policy::kRandom;
  absl::StatusOr<RunResult> failed = RunSimulated(options);
  ASSERT_TRUE(failed.ok()) << failed.status();
  ASSERT_EQ(failed->rule, "prompt");
  const size_t before = failed->decisions.size();
  const RunResult small = Shrink({.run = options}, *failed).run;
  EXPECT_EQ(small.rule, "prompt");
  EXPECT_LT(small.decisions.size(), before);
}

TEST(ExploreTest, TheStoryHasLabelsOfCallsAndNotesOfServices) {
  SimRunOptions options = RunOptions(1);
  options.keep_trace = true;
  const absl::StatusOr<RunResult> result = RunSimulated(options);
  ASSERT_TRUE(result.ok()) << result.status();
  const std::vector<std::string> story = TellStory(*result);
  EXPECT_THAT(story, Contains(HasSubstr("w1     notes: it begins")));
  EXPECT_THAT(story, Contains(HasSubstr("w1     notes: it is over")));
  EXPECT_THAT(story, Contains(HasSubstr("calls w0 (call 0 (push)")));
  EXPECT_THAT(story, Contains(HasSubstr("w0     gets call 0 (push) of w1")));
}

TEST(ExploreTest, VerifyComparesRunsOfOneSeed) {
  VerifyOptions options;
  options.run = RunOptions(1'000'000);
  const absl::StatusOr<VerifyResult> result = Verify(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->differs, "");
  EXPECT_NE(result->hash, 0u);
}

// Each run of foreign code has a process of its own. What is left in a static
// does not count; what differs between processes does.
TEST(ExploreTest, VerifyComparesProcessesOfForeignCode) {
  for (const bool shows_its_process : {false, true}) {
    Scenario scenario;
    scenario.name = "foreign";
    scenario.workers = 1;
    scenario.foreign_code = true;
    scenario.body = [shows_its_process](Worker& worker) {
      static int runs = 0;
      worker.Note("run " + std::to_string(++runs));
      std::string process;
      std::ifstream("/proc/self/stat") >> process;
      if (shows_its_process) worker.Note(process);
    };
    VerifyOptions options;
    options.run.scenario = &scenario;
    const absl::StatusOr<VerifyResult> result = Verify(options);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(!result->differs.empty(), shows_its_process) << result->differs;
    EXPECT_EQ(result->leak.has_value(), shows_its_process);
    if (!shows_its_process) continue;
    EXPECT_EQ(*result->leak, LeakKind::kRandom);
    EXPECT_THAT(result->expected, HasSubstr("note"));
  }
}

}  // namespace
}  // namespace reprise
