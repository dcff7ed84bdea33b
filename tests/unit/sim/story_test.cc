#include "sim/view/story.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kSecond = 1'000'000'000;

void Happens(RunResult& result, int32_t node, const EventDetails& details) {
  result.events.push_back(MakeEvent(0, node, details));
}

TEST(StoryTest, CallsAreNamedByTheirLabels) {
  RunResult result;
  const auto starts = [&](uint64_t id, std::string_view label) {
    Happens(result, 0,
            {.kind = EventKind::kCallStarted,
             .id = id,
             .rank = 1,
             .deadline_ns = INT64_MAX,
             .text = label});
  };
  starts(53, "push");
  starts(54, "");
  Happens(result, 1, {.kind = EventKind::kRequest, .id = 53, .text = "w0"});
  Happens(result, 1, {.kind = EventKind::kReply, .id = 53, .text = "w0"});
  Happens(result, 0, {.kind = EventKind::kCallCompleted, .id = 53, .rank = 1});
  Happens(result, 0, {.kind = EventKind::kCallLateReply, .id = 54, .rank = 1});
  // Another caller's call of this id, and that of a caller that has restarted.
  Happens(result, 1, {.kind = EventKind::kRequest, .id = 53, .text = "w2"});
  starts(53, "pull");
  Happens(result, 0, {.kind = EventKind::kCallCompleted, .id = 53, .rank = 1});
  EXPECT_THAT(
      TellStory(result, 100),
      ElementsAre(EndsWith("w0     calls w1 (call 53 (push), no deadline)"),
                  EndsWith("w0     calls w1 (call 54, no deadline)"),
                  EndsWith("w1     gets call 53 (push) of w0"),
                  EndsWith("w1     answers call 53 (push) of w0: OK"),
                  EndsWith("w0     call 53 (push) to w1 is done: OK"),
                  EndsWith("w0     drops a late reply to call 54"),
                  EndsWith("w1     gets call 53 of w2"),
                  EndsWith("w0     calls w1 (call 53 (pull), no deadline)"),
                  EndsWith("w0     call 53 (pull) to w1 is done: OK")));
}

void HappensAt(RunResult& result, int64_t seconds, int32_t node,
               const EventDetails& details) {
  result.events.push_back(MakeEvent(seconds * kSecond, node, details));
}

// `number` calls of w0 to w2, a second each.
void CallsFor(RunResult& result, int64_t from, int number) {
  for (int i = 0; i < number; ++i) {
    const auto id = static_cast<uint64_t>(from + i);
    HappensAt(result, from + i, 0,
              {.kind = EventKind::kCallStarted,
               .id = id,
               .rank = 2,
               .deadline_ns = INT64_MAX});
    HappensAt(result, from + i, 2,
              {.kind = EventKind::kRequest, .id = id, .text = "w0"});
    HappensAt(result, from + i, 2,
              {.kind = EventKind::kReply, .id = id, .text = "w0"});
    HappensAt(result, from + i, 0,
              {.kind = EventKind::kCallCompleted, .id = id, .rank = 2});
  }
}

// The listener of w1 fails, and a minute later w2 finds that it cannot call it.
RunResult FailureAMinuteLater() {
  RunResult result;
  result.rule = "heals";
  result.detail = "w2: w1 cannot be called";
  HappensAt(result, 1, -1, {.kind = EventKind::kFault, .text = "crash w1"});
  HappensAt(result, 1, 1,
            {.kind = EventKind::kListenerFailed, .text = "reset"});
  CallsFor(result, 2, 60);
  HappensAt(result, 62, 2,
            {.kind = EventKind::kCheckFailed,
             .text = "w2: heals: w1 cannot be called"});
  return result;
}

TEST(StoryTest, AFailureIsToldFromItsCauseHoweverLongAgo) {
  const std::vector<std::string> story = TellStory(FailureAMinuteLater());
  EXPECT_LE(story.size(), kStoryLines);
  EXPECT_THAT(story, Contains(HasSubstr("world  FAULT crash w1")));
  EXPECT_THAT(story, Contains(HasSubstr("w1     loses its listener")));
  EXPECT_THAT(story, Contains(HasSubstr("w2     FAILS")));
  EXPECT_THAT(story.front(), HasSubstr("lines are left out"));
}

TEST(StoryTest, BeginsWithTheNetworkOfTheRun) {
  RunResult result = FailureAMinuteLater();
  result.topology = {"link w0-w1 latency 20ms"};
  const std::vector<std::string> story = TellStory(result);
  EXPECT_LE(story.size(), kStoryLines);
  EXPECT_THAT(story.front(), HasSubstr("topology: link w0-w1 latency 20ms"));
  for (int i = 0; i < 50; ++i) result.topology.emplace_back("host w0,w1");
  EXPECT_LE(TellStory(result).size(), kStoryLines);
  EXPECT_THAT(TellStory(result),
              Contains(HasSubstr("topology: and 44 more lines")));
}

// The trace has the word of a fault that lasts, and not whom it is between.
TEST(StoryTest, AFaultIsToldWithItsWorkers) {
  RunResult result;
  result.rule = "heals";
  result.detail = "w2: w1 cannot be called";
  result.faults = {
      "hold w0-w1 after 1s for 2s", "hold w1-w2 when w0 call.started#2 for 2s",
      "hold w2-w3 after 1s for 2s", "store-delay 50ms after 1s for 2s",
      "refuse w1 after 9s "
      "for 2s"};
  result.never_struck = {"hold w2-w3 after 1s for 2s"};
  result.injections = {{"hold", 3}, {"store-delay", 1}, {"refuse", 1}};
  const auto strikes = [&](int64_t seconds, std::string_view word) {
    HappensAt(result, seconds, -1, {.kind = EventKind::kFault, .text = word});
  };
  strikes(2, "hold");
  CallsFor(result, 2, 2);
  strikes(3, "hold");
  strikes(4, "hold");
  strikes(4, "store-delay");
  strikes(5, "drop-connect");
  const std::vector<std::string> story = TellEverything(result);
  const auto tells = [&](std::string_view line) {
    EXPECT_THAT(story, Contains(EndsWith(std::string(line))));
  };
  tells("2.000000  world  FAULT hold w0-w1 after 1s for 2s");
  // From the second call on.
  tells(
      "3.000000  world  FAULT hold w0-w1 after 1s for 2s, or hold w1-w2 when "
      "w0 call.started#2 for 2s");
  tells("4.000000  world  FAULT hold w1-w2 when w0 call.started#2 for 2s");
  // Its time is over, but nothing else can it have been.
  tells("4.000000  world  FAULT store-delay 50ms after 1s for 2s");
  tells("5.000000  world  FAULT drop-connect");
}

TEST(StoryTest, ACallThatIsSentAgainIsTold) {
  RunResult result;
  result.rule = "once";
  result.detail = "w1: call 7 ran 2 times";  // by a number of the scenario's
  const auto attempt = [&](int64_t seconds, uint64_t id) {
    if (id != 3) {
      HappensAt(
          result, seconds, 0,
          {.kind = EventKind::kCallRetried, .id = id, .rank = 1, .earlier = 3});
    }
    HappensAt(result, seconds, 0,
              {.kind = EventKind::kCallStarted,
               .id = id,
               .rank = 1,
               .deadline_ns = INT64_MAX,
               .text = "push"});
    HappensAt(result, seconds, 1,
              {.kind = EventKind::kRequest, .id = id, .text = "w0"});
  };
  attempt(1, 3);
  attempt(2, 4);
  CallsFor(result, 10, 60);
  attempt(100, 5);
  HappensAt(result, 100, 1,
            {.kind = EventKind::kCheckFailed,
             .text = "w1: once: call 7 ran 2 times"});
  const std::vector<std::string> story = TellStory(result);
  EXPECT_THAT(
      story,
      Contains(EndsWith("w0     sends call 3 (push) to w1 again, as call 4")));
  EXPECT_THAT(
      story,
      Contains(EndsWith("w0     sends call 3 (push) to w1 again, as call 5")));
  EXPECT_THAT(story, Contains(EndsWith("w1     gets call 3 (push) of w0")));
  EXPECT_THAT(story, Contains(EndsWith("w1     gets call 5 (push) of w0")));
}

TEST(StoryTest, TheRuleIsToldAsASentence) {
  RunResult result;
  result.rule = "exactly-once";
  result.detail = "w0 call 3: never completed";
  CallsFor(result, 1, 1);
  const std::vector<std::string> story = TellStory(result);
  ASSERT_GE(story.size(), 2u);
  EXPECT_EQ(story[story.size() - 2],
            "violated: exactly-once: w0 call 3: never completed");
  EXPECT_EQ(story.back(),
            "the rule: A call that was started is completed exactly once.");
}

TEST(StoryTest, EverythingIsEverything) {
  const RunResult result = FailureAMinuteLater();
  // Each event, and the two lines of the rule.
  EXPECT_EQ(TellEverything(result).size(), result.events.size() + 2);
}

TEST(StoryTest, WhatHappensAgainAndAgainTakesThreeLines) {
  RunResult result;
  result.rule = "heals";
  result.detail = "w2: w1 cannot be called";
  for (int i = 0; i < 50; ++i) {
    HappensAt(result, i, 2,
              {.kind = EventKind::kPipeFailed,
               .code = absl::StatusCode::kUnavailable,
               .text = "w1: connection to w1 failed: refused"});
  }
  HappensAt(result, 60, 2,
            {.kind = EventKind::kCheckFailed,
             .text = "w2: heals: w1 cannot be called"});
  const std::vector<std::string> story = TellStory(result);
  EXPECT_THAT(story, Contains(AllOf(HasSubstr("loses its connection: w1"),
                                    EndsWith("(and 47 times before)"))));
  EXPECT_LE(story.size(), 8u);
}

TEST(StoryTest, SaysForEveryRuleWhoWaitsForWhom) {
  RunResult result;
  result.rule = "settle";
  result.detail = "the last worker ended 400s after the last fault";
  const auto call = [&](uint64_t id, std::string_view label) {
    HappensAt(result, 3, 0,
              {.kind = EventKind::kCallStarted,
               .id = id,
               .rank = 1,
               .deadline_ns = INT64_MAX,
               .text = label});
  };
  call(7, "push");
  call(8, "");
  HappensAt(result, 4, 1, {.kind = EventKind::kRequest, .id = 7, .text = "w0"});
  HappensAt(result, 5, 2, {.kind = EventKind::kBarrierEntered, .id = 2});
  HappensAt(result, 9, 2, {.kind = EventKind::kCrash});
  HappensAt(result, 9, 1, {.kind = EventKind::kBarrierEntered, .id = 2});
  const std::vector<std::string> story = TellStory(result);
  EXPECT_THAT(story, Contains(HasSubstr(
                         "w0 waits for w1: call 7 (push), for 6.000000 s; w1 "
                         "got it at 4.000000 s and has not answered")));
  EXPECT_THAT(story, Contains(HasSubstr("w0 waits for w1: call 8, for "
                                        "6.000000 s; w1 has not got it")));
  EXPECT_THAT(story,
              Contains(HasSubstr("w1 is in barrier 2; it waits for w0, w2")));
  EXPECT_THAT(story, Contains(HasSubstr("w2 has crashed and is not back")));
}

TEST(StoryTest, TheLastWriterOfAKeyIsTold) {
  RunResult result;
  result.rule = "joins";
  result.detail = "w1: it could not join";
  HappensAt(result, 1, 2,
            {.kind = EventKind::kStore, .text = "compare-set token"});
  CallsFor(result, 2, 60);
  HappensAt(result, 62, 1,
            {.kind = EventKind::kStore, .text = "compare-set token"});
  HappensAt(result, 62, 1,
            {.kind = EventKind::kCheckFailed,
             .text = "w1: joins: it could not join"});
  EXPECT_THAT(TellStory(result),
              Contains(HasSubstr("1.000000  w2     in the store: compare-set "
                                 "token")));
}

TEST(StoryTest, OfARunThatHeldTheEndIsTold) {
  RunResult result;
  CallsFor(result, 1, 60);
  HappensAt(result, 70, 0, {.kind = EventKind::kShutdown});
  const std::vector<std::string> story = TellStory(result);
  EXPECT_LE(story.size(), kStoryLines);
  EXPECT_THAT(story.back(), HasSubstr("has shut down"));
  EXPECT_THAT(story, Not(Contains(HasSubstr("violated"))));
}

}  // namespace
}  // namespace reprise
