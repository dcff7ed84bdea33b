// A failure that its recording no longer shows is found around it.

#include "sim/explore/search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "sim/explore/recording_variants.h"
#include "sim/scenario/scenario.h"

namespace reprise {
namespace {

// Two threads of one worker write and read a number in two steps. The rule
// `atomic` fails when the second falls between the steps of the first.
// `more` is an edit: so many visits of the lock before.
void TwoSteps(Worker& worker) {
  Mutex mutex(worker.runtime(), "number");
  int number = 0;
  auto other = worker.runtime().StartThread("other", [&] {
    for (int i = 0; i < 20; ++i) {
      MutexLock lock(mutex);
      if (number % 2 != 0) number = 100;
    }
  });
  for (int i = 0; i < worker.param("more"); ++i) MutexLock lock(mutex);
  for (int i = 0; i < 20; ++i) {
    {
      MutexLock lock(mutex);
      ++number;
    }
    // Only here can the other see it.
    if (i == 10) MutexLock lock(mutex);
    MutexLock lock(mutex);
    ++number;
  }
  other->Join();
  worker.Check(number == 40, "atomic", "the other came between");
}

SimRunOptions RunOptions(int64_t more) {
  static const Scenario scenario = {.name = "two_steps",
                                    .workers = 1,
                                    .params = {{"more", 0}},
                                    .body = TwoSteps};
  SimRunOptions options;
  options.scenario = &scenario;
  options.params = {{"more", more}};
  options.keep_trace = true;
  return options;
}

std::vector<Decision> Recording() {
  // The first thread stops between its steps, and the other runs.
  return {*Decision::Parse("w0/main [start] lock:number#6 switch 1")};
}

TEST(SearchTest, ShiftedCountsFindTheFailureAfterAnEdit) {
  SimRunOptions run = RunOptions(0);
  const std::vector<Decision> recording = Recording();
  run.recording = &recording;
  const absl::StatusOr<RunResult> recorded = RunSimulated(run);
  ASSERT_TRUE(recorded.ok()) << recorded.status();
  ASSERT_EQ(recorded->rule, "atomic");

  run = RunOptions(1);
  run.recording = &recording;
  const absl::StatusOr<RunResult> edited = RunSimulated(run);
  ASSERT_TRUE(edited.ok()) << edited.status();
  ASSERT_EQ(edited->rule, "");

  SearchOptions options;
  options.run = RunOptions(1);
  options.decisions = recording;
  options.rule = "atomic";
  options.max_variants = 20;
  options.max_seconds = 1000;
  const absl::StatusOr<SearchResult> found = Search(options, *edited);
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_TRUE(found->same.has_value());
  EXPECT_EQ(found->same->run.rule, "atomic");
  EXPECT_LE(found->variants, 20);

  // What was found is a recording itself.
  run = RunOptions(1);
  run.seed = found->same->seed;
  run.recording = &found->same->run.decisions;
  const absl::StatusOr<RunResult> again = RunSimulated(run);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->rule, "atomic");
  EXPECT_EQ(again->hash, found->same->run.hash);
}

TEST(SearchTest, SaysHowManyVariantsHeld) {
  SearchOptions options;
  options.run = RunOptions(0);
  options.rule = "no such rule";
  options.max_variants = 10;
  options.max_seconds = 1000;
  const absl::StatusOr<SearchResult> found = Search(options, RunResult());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_FALSE(found->same.has_value());
  EXPECT_EQ(found->variants, 10);
  EXPECT_EQ(found->tried.at("schedules") + found->tried.at("seeds"), 10);
}

bool HasLine(const std::vector<RecordingVariant>& variants,
             const std::string& kind, const std::string& line) {
  return std::any_of(
      variants.begin(), variants.end(), [&](const RecordingVariant& variant) {
        return variant.kind == kind &&
               std::any_of(variant.decisions.begin(), variant.decisions.end(),
                           [&](const Decision& decision) {
                             return decision.ToString() == line;
                           });
      });
}

TEST(RecordingVariantsTest, CountsAndSectionsAreShifted) {
  const std::vector<Decision> recording = {
      *Decision::Parse("w0/main [call w1 1] lock:a#1 switch 1"),
      *Decision::Parse("w0/timer [start] wait:b#7 stall 5")};
  const auto variants = RecordingVariants(recording, RunResult());
  for (const char* line : {"w0/main [call w1 1] lock:a#2 switch 1",
                           "w0/main [call w1 2] lock:a#1 switch 1",
                           "w0/main [call w1 0] lock:a#1 switch 1",
                           "w0/timer [start] wait:b#8 stall 5",
                           "w0/timer [start] wait:b#4 stall 5"}) {
    EXPECT_TRUE(HasLine(variants, "shifted", line)) << line;
  }
  // No count is below 1.
  EXPECT_FALSE(
      HasLine(variants, "shifted", "w0/main [call w1 1] lock:a#0 switch 1"));
  EXPECT_TRUE(std::any_of(variants.begin(), variants.end(), [](const auto& v) {
    return v.kind == "dropped" && v.decisions.empty();
  }));
}

TEST(RecordingVariantsTest, LabelsThatAreGoneAreRenamed) {
  const std::vector<Decision> recording = {
      *Decision::Parse("w0/main [start] lock:Calls#1 next w0/timer")};
  RunResult plain;
  plain.threads = {"w0/main", "w0/the timer", "w0/io"};
  plain.places = {"lock:CallTable", "lock:Pipe", "sleep"};
  const auto variants = RecordingVariants(recording, plain);
  EXPECT_TRUE(HasLine(variants, "renamed",
                      "w0/main [start] lock:CallTable#1 next w0/timer"));
  EXPECT_TRUE(HasLine(variants, "renamed",
                      "w0/main [start] lock:Calls#1 next w0/the timer"));
}

TEST(RecordingVariantsTest, CombinedVariantsDiffer) {
  std::vector<Decision> recording;
  for (int i = 1; i <= 20; ++i) {
    recording.push_back(*Decision::Parse("w0/main [start] lock:a#" +
                                         std::to_string(5 * i) + " switch 1"));
  }
  size_t dropped = 0;
  for (uint64_t number = 0; number < 50; ++number) {
    const auto variant = CombinedVariant(recording, number);
    EXPECT_EQ(variant.size(), CombinedVariant(recording, number).size());
    dropped += recording.size() - variant.size();
  }
  EXPECT_GT(dropped, 20u);
}

}  // namespace
}  // namespace reprise
