// What lists of schedules, values and numbers of workers mean, and which
// numbers are none.

#include "tools/command/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "sim/scenario/scenario.h"
#include "tools/command/numbers.h"

namespace reprise {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

REPRISE_SCENARIO(elastic, {.description = "",
                           .workers = 3,
                           .worker_range = ParamRange{1, 10},
                           .params = {{"steps", 5}, {"percent", 1}},
                           .param_ranges = {{"percent", {0, 100}}},
                           .body = [](Worker&) {}});
REPRISE_SCENARIO(rigid, {.description = "", .body = [](Worker&) {}});

std::vector<std::string> NamesOf(const RunFlags& run) {
  const auto variants = ExpandSweep(run);
  EXPECT_TRUE(variants.ok()) << variants.status();
  std::vector<std::string> names;
  if (!variants.ok()) return names;
  for (const Variant& variant : *variants) names.push_back(variant.name);
  return names;
}

std::string ErrorOf(const RunFlags& run) {
  const absl::Status status = ExpandSweep(run).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  return std::string(status.message());
}

TEST(SweepTest, OneOfEachIsOne) {
  EXPECT_THAT(NamesOf({.scenario = "elastic", .params = {"steps=7"}}),
              ElementsAre(""));
}

TEST(SweepTest, ListsAreCombined) {
  const RunFlags run = {.scenario = "elastic",
                        .params = {"steps=5..6", "percent=7"},
                        .workers = "2,4",
                        .schedule = "random,pct"};
  EXPECT_THAT(
      NamesOf(run),
      ElementsAre("random steps=5 workers=2", "random steps=5 workers=4",
                  "random steps=6 workers=2", "random steps=6 workers=4",
                  "pct steps=5 workers=2", "pct steps=5 workers=4",
                  "pct steps=6 workers=2", "pct steps=6 workers=4"));
  const auto variants = ExpandSweep(run);
  ASSERT_TRUE(variants.ok());
  const auto params = variants->back().run.ToParams();
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(*params,
            (ScenarioParams{{"percent", 7}, {"steps", 6}, {"workers", 4}}));
}

TEST(SweepTest, AllMeansEverySchedule) {
  EXPECT_THAT(NamesOf({.scenario = "elastic", .schedule = "all"}),
              ElementsAre("cooperative", "random", "pct"));
}

TEST(SweepTest, ValuesThatMakeNoSense) {
  for (const char* value : {"steps=", "steps=x", "steps=1..", "steps=3..1",
                            "steps=1,,2", "steps=9223372036854775808"}) {
    EXPECT_THAT(ErrorOf({.scenario = "elastic", .params = {value}}),
                HasSubstr(value));
  }
  EXPECT_THAT(ErrorOf({.scenario = "elastic", .params = {"steps"}}),
              HasSubstr("name=value"));
  EXPECT_THAT(ErrorOf({.scenario = "elastic", .params = {"steps=0..1000"}}),
              HasSubstr("more than 1000"));
  EXPECT_THAT(ErrorOf({.scenario = "elastic",
                       .params = {"steps=1..100", "percent=1..100"}}),
              HasSubstr("more than 1000"));
  EXPECT_THAT(ErrorOf({.scenario = "elastic",
                       .params = {"steps=-9223372036854775808.."
                                  "9223372036854775807"}}),
              HasSubstr("more than 1000"));
  EXPECT_THAT(ErrorOf({.scenario = "elastic", .schedule = "random,x"}),
              HasSubstr("no schedule 'x'"));
}

TEST(SweepTest, RangesHoldForEveryValue) {
  EXPECT_THAT(ErrorOf({.scenario = "elastic", .params = {"percent=99..101"}}),
              HasSubstr("from 0 to 100"));
  EXPECT_THAT(ErrorOf({.scenario = "elastic", .params = {"steps=-5"}}),
              HasSubstr("0 or more"));
  EXPECT_THAT(ErrorOf({.scenario = "elastic", .workers = "9..11"}),
              HasSubstr("a number from 1 to 10"));
  EXPECT_THAT(ErrorOf({.scenario = "rigid", .workers = "4"}),
              HasSubstr("rigid runs with 3 workers only"));
  EXPECT_THAT(NamesOf({.scenario = "rigid", .workers = "3"}), ElementsAre(""));
}

TEST(NumbersTest, WholeNumbersWithinARange) {
  const auto error = [](std::string text, uint64_t min = 0,
                        uint64_t max = UINT64_MAX) {
    return WholeNumber(min, max)(text);
  };
  EXPECT_EQ(error("0"), "");
  EXPECT_EQ(error("18446744073709551615"), "");
  for (const char* text : {"-1", "18446744073709551616", "", "1.5", "1e3", " 1",
                           "+1", "0x10", "nan", "one"}) {
    EXPECT_THAT(error(text), HasSubstr("is not a whole number from 0 to "))
        << text;
  }
  EXPECT_THAT(error("0", 1, 64), HasSubstr("from 1 to 64"));
  EXPECT_THAT(error("65", 1, 64), HasSubstr("from 1 to 64"));
}

TEST(NumbersTest, NumbersWithinARange) {
  for (const std::string good : {"0", "0.5", "1", "1e-3"}) {
    std::string text = good;
    EXPECT_EQ(NumberFrom(0, 1)(text), "");
  }
  for (const std::string bad : {"nan", "inf", "-0.1", "1.1", "", "x"}) {
    std::string text = bad;
    EXPECT_NE(NumberFrom(0, 1)(text), "") << bad;
  }
}

}  // namespace
}  // namespace reprise
