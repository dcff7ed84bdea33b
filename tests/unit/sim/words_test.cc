#include "sim/view/words.h"

#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;

TEST(WordsTest, EveryKindOfEventHasWordsOrIsTooSmallToTell) {
  const RunResult result;
  for (int i = 0; i < static_cast<int>(EventKind::kCount); ++i) {
    const auto kind = static_cast<EventKind>(i);
    Narrator narrator(result);
    const std::optional<std::string> words = narrator.Tell(
        MakeEvent(0, 1, {.kind = kind, .id = 7, .rank = 2, .text = "w3"}));
    EXPECT_EQ(words.has_value(), !IsTooSmallToTell(kind)) << ToString(kind);
    EXPECT_NE(words.value_or("none"), "") << ToString(kind);
  }
}

TEST(WordsTest, MembersOfADynamicGroupAreNamedAndNotNumbered) {
  const RunResult result;
  Narrator narrator(result);
  narrator.Tell(MakeEvent(
      0, 0, {.kind = EventKind::kMemberJoined, .rank = 6, .text = "w2:b"}));
  EXPECT_THAT(*narrator.Tell(MakeEvent(
                  0, 0, {.kind = EventKind::kCallStarted, .id = 4, .rank = 6})),
              HasSubstr("calls w2:b (call 4"));
}

TEST(WordsTest, AStallThatWasDecidedIsToldWithItsPlace) {
  RunResult result;
  result.decisions.push_back(*Decision::Parse("w1 lock:Timer#17 stall 46200"));
  Narrator narrator(result);
  const auto tell = [&](int32_t node, int64_t ns) {
    return *narrator.Tell(
        MakeEvent(0, node, {.kind = EventKind::kStall, .stall_ns = ns}));
  };
  EXPECT_EQ(tell(1, 46200), "stalls for 46.200 us at w1 lock:Timer#17");
  EXPECT_EQ(tell(2, 46200), "stalls for 46.200 us");
  EXPECT_EQ(tell(1, 46201), "stalls for 46.201 us");
}

TEST(WordsTest, RulesHaveAMeaning) {
  EXPECT_THAT(MeaningOf("exactly-once"), HasSubstr("completed exactly once"));
  const std::string own = MeaningOf("heals");
  for (const char* const rule :
       {"exactly-once", "deadline", "byte-for-byte", "named-cause",
        "after-shutdown", "barrier", "shutdown", "deadlock", "time-limit",
        "progress", "settle", "leak", "gpu-race", "gpu-freed", "gpu-event",
        "gpu-handle", "gpu-memory", "gpu-callback"}) {
    EXPECT_NE(MeaningOf(rule), own) << rule;
  }
}

TEST(WordsTest, RanksOfNames) {
  EXPECT_EQ(RankOfName("w3"), 3);
  EXPECT_EQ(RankOfName("w3-x"), 3);
  EXPECT_EQ(RankOfName("w12:b"), 12);
  EXPECT_EQ(RankOfName("w1/main joins w1/timer"), 1);
  EXPECT_EQ(RankOfName("world"), -1);
  EXPECT_EQ(RankOfName("w"), -1);
  EXPECT_EQ(RankOfName("w3x"), -1);
}

}  // namespace
}  // namespace reprise
