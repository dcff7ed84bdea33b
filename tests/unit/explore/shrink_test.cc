// The shrinker over runs that are functions of what is made smaller, and not
// over a world.

#include "sim/explore/shrink.h"

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sim/explore/simpler_fault.h"

namespace reprise {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

const Scenario& AnyScenario() {
  static const Scenario scenario = {.name = "any", .params = {{"calls", 100}}};
  return scenario;
}

// The decision number `i`.
Decision At(int i) {
  Decision decision;
  decision.site = "w0 lock:any";
  decision.count = static_cast<uint64_t>(i);
  decision.kind = DecisionKind::kSwitch;
  decision.value = 1;
  return decision;
}

// What a run sees.
struct Seen {
  std::vector<std::string> faults;
  std::vector<std::string> topology = {};
  std::vector<uint64_t> decisions = {};  // their counts
  int64_t calls = 0;

  bool Has(uint64_t count) const {
    return std::find(decisions.begin(), decisions.end(), count) !=
           decisions.end();
  }
  bool HasFault(const std::string& line) const {
    return std::find(faults.begin(), faults.end(), line) != faults.end();
  }
};

class ShrinkTest : public ::testing::Test {
 protected:
  // `fails` says whether a run violates the rule.
  ShrinkResult ShrinkWhere(std::function<bool(const Seen&)> fails) {
    options_.run.scenario = &AnyScenario();
    options_.run.params = {{"calls", 100}};
    options_.run.recording = &failed_.decisions;
    failed_.rule = "any";
    failed_.num_points = 1000;
    failed_.sim_seconds = 1;
    options_.runner =
        [this, fails = std::move(fails)](
            const SimRunOptions& run) -> absl::StatusOr<RunResult> {
      runs_.push_back(run);
      recordings_.push_back(*run.recording);
      Seen seen{.faults = *run.faults, .topology = *run.topology};
      for (const Decision& decision : *run.recording) {
        seen.decisions.push_back(decision.count);
      }
      seen.calls = run.params.at("calls");
      RunResult result;
      if (fails(seen)) result.rule = failed_.rule;
      result.faults = *run.faults;
      result.decisions = *run.recording;
      result.sim_seconds = 1;
      return result;
    };
    return Shrink(options_, failed_);
  }

  void Decide(int number) {
    for (int i = 0; i < number; ++i) failed_.decisions.push_back(At(i));
  }

  static std::vector<uint64_t> CountsOf(const ShrinkResult& result) {
    std::vector<uint64_t> counts;
    for (const Decision& decision : result.run.decisions) {
      counts.push_back(decision.count);
    }
    return counts;
  }

  ShrinkOptions options_;
  RunResult failed_;
  std::vector<SimRunOptions> runs_;
  std::vector<std::vector<Decision>> recordings_;
};

TEST_F(ShrinkTest, WhatTheFailureDoesNotNeedIsGone) {
  Decide(500);
  failed_.faults = {"crash w0 after 1s", "crash w1 after 1s"};
  const ShrinkResult result = ShrinkWhere([](const Seen& seen) {
    return seen.Has(17) && seen.Has(230) && seen.Has(499) &&
           seen.HasFault("crash w1 after 1s");
  });
  EXPECT_THAT(CountsOf(result), ElementsAre(17, 230, 499));
  EXPECT_THAT(result.run.faults, ElementsAre("crash w1 after 1s"));
  EXPECT_TRUE(result.minimal);
  EXPECT_EQ(result.stopped, "");
  EXPECT_THAT(result.changes, Contains("gone: fault crash w0 after 1s"));
  EXPECT_THAT(result.changes, Contains("decisions: 500 to 3"));
  EXPECT_LT(result.runs, 200);
}

TEST_F(ShrinkTest, LinksThatTheFailureDoesNotNeedAreGone) {
  failed_.topology = {"link w0-w1 latency 1ms", "link w1-w2 latency 2ms",
                      "host w0,w1"};
  const ShrinkResult result = ShrinkWhere([](const Seen& seen) {
    return std::find(seen.topology.begin(), seen.topology.end(),
                     "link w1-w2 latency 2ms") != seen.topology.end();
  });
  EXPECT_THAT(result.run.topology, ElementsAre("link w1-w2 latency 2ms"));
  EXPECT_THAT(result.changes, Contains("gone: topology host w0,w1"));
  EXPECT_TRUE(result.minimal);
}

TEST_F(ShrinkTest, WhatBecomesSuperfluousLaterIsGoneToo) {
  // 20 is needed as long as 10 is there, which goes only alone and, as the
  // passes run from the end to the beginning, after 20 was tried.
  Decide(30);
  const ShrinkResult result = ShrinkWhere([](const Seen& seen) {
    return seen.Has(9) && seen.Has(11) && (seen.Has(20) || !seen.Has(10));
  });
  EXPECT_THAT(CountsOf(result), ElementsAre(9, 11));
}

TEST_F(ShrinkTest, TwoDecisionsThatUndoEachOtherGoTogether) {
  Decide(12);
  const ShrinkResult result = ShrinkWhere([](const Seen& seen) {
    return seen.Has(3) && seen.Has(4) == seen.Has(9) && seen.Has(5) &&
           seen.Has(8);
  });
  EXPECT_THAT(CountsOf(result), ElementsAre(3, 5, 8));
}

TEST_F(ShrinkTest, SizesGoDownToTheSmallestThatFailsAndNoFurther) {
  options_.smallest = {{"calls", 1}};
  ShrinkResult result =
      ShrinkWhere([](const Seen& seen) { return seen.calls >= 37; });
  EXPECT_THAT(result.params, ElementsAre(Pair("calls", 37)));
  EXPECT_THAT(result.changes, Contains("param calls: 100 to 37"));

  options_.smallest = {{"calls", 5}};
  result = ShrinkWhere([](const Seen&) { return true; });
  EXPECT_THAT(result.params, ElementsAre(Pair("calls", 5)));

  options_.smallest = {};
  result = ShrinkWhere([](const Seen&) { return true; });
  EXPECT_THAT(result.params, ElementsAre(Pair("calls", 100)));
}

TEST_F(ShrinkTest, StallsAndFaultsBecomeSimpler) {
  Decision stall = At(1);
  stall.kind = DecisionKind::kStall;
  stall.value = 48'000;
  failed_.decisions = {stall};
  failed_.faults = {"hold w0-w1 after 10ms for 8s"};
  const ShrinkResult result = ShrinkWhere([this](const Seen& seen) {
    return seen.Has(1) && !seen.faults.empty() &&
           recordings_.back().front().value >= 10'000 &&
           (seen.faults[0].ends_with("s for 8s") ||
            seen.faults[0].ends_with("s for 4s"));
  });
  ASSERT_EQ(result.run.decisions.size(), 1u);
  EXPECT_EQ(result.run.decisions[0].value, 12'000u);
  EXPECT_THAT(result.run.faults, ElementsAre("hold w0-w1 after 870ms for 4s"));
}

TEST_F(ShrinkTest, SaysWhenItsTimeRanOut) {
  Decide(20);
  options_.max_seconds = 0;
  const ShrinkResult result =
      ShrinkWhere([](const Seen& seen) { return seen.Has(7); });
  EXPECT_FALSE(result.minimal);
  EXPECT_EQ(result.stopped, "stopped after 0 s, not minimal");
  EXPECT_EQ(result.run.rule, "any");
}

TEST_F(ShrinkTest, AnotherRuleIsAnotherFailure) {
  Decide(3);
  options_.is_same = [](const RunResult& run) {
    return !run.held() && run.decisions.size() >= 2;
  };
  const ShrinkResult result = ShrinkWhere([](const Seen&) { return true; });
  EXPECT_EQ(result.run.decisions.size(), 2u);
}

TEST_F(ShrinkTest, EveryRunButTheLastIsBoundedByTheOneThatFailed) {
  Decide(8);
  ShrinkWhere([](const Seen& seen) { return seen.Has(7); });
  ASSERT_GT(runs_.size(), 2u);
  for (size_t i = 0; i + 1 < runs_.size(); ++i) {
    EXPECT_EQ(runs_[i].max_points, 12'000);
    EXPECT_EQ(runs_[i].max_time_ns, 12'000'000'000);
    EXPECT_FALSE(runs_[i].keep_trace);
  }
  EXPECT_EQ(runs_.back().max_points, 0);
  EXPECT_TRUE(runs_.back().keep_trace);
}

TEST_F(ShrinkTest, NothingIsRunTwice) {
  Decide(16);
  ShrinkWhere([](const Seen& seen) { return seen.Has(3) && seen.Has(11); });
  std::vector<std::string> runs;
  // All but the last run, which keeps the trace of the smallest.
  for (size_t i = 0; i + 1 < runs_.size(); ++i) {
    std::string counts;
    for (const Decision& decision : recordings_[i]) {
      counts += decision.ToString() + "; ";
    }
    runs.push_back(counts);
  }
  std::sort(runs.begin(), runs.end());
  EXPECT_EQ(std::adjacent_find(runs.begin(), runs.end()), runs.end());
}

TEST(SimplerFaultTest, FormsOfALine) {
  constexpr int64_t kEnd = 10'000'000'000;
  EXPECT_THAT(
      SimplerFaults("crash w1 when w1 send.payload#3 restart 200ms", kEnd),
      ElementsAre("crash w1 when w1 send.payload#3",
                  "crash w1 when w1 send.payload#6 restart 200ms",
                  "crash w1 when w1 send.payload#3 restart 100ms"));
  EXPECT_THAT(SimplerFaults("delay w0-w1 20ms after 1s for 2s", kEnd),
              ElementsAre("delay w0-w1 10ms after 1s for 2s",
                          "delay w0-w1 20ms after 5.5s for 2s",
                          "delay w0-w1 20ms after 1s for 1s"));
  EXPECT_THAT(SimplerFaults("partition w0-w1 after 9.5s for ever", kEnd),
              IsEmpty());
  EXPECT_THAT(SimplerFaults("cut w0>w1 byte 4096 reset", kEnd), IsEmpty());
  EXPECT_THAT(SimplerFaults("pause w1 after 1.2345678s for ever", kEnd),
              Contains("pause w1 after 1.2s for ever"));
}

}  // namespace
}  // namespace reprise
