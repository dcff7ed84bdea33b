// Traces of machines whose clocks differ, merged and judged.

#include "tools/processes/merge.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tools/processes/judge.h"

namespace reprise {
namespace {

Event Of(int64_t ms, int32_t node, EventKind kind, uint64_t id = 0,
         int64_t a = 0, int64_t b = 0, uint64_t c = 0, std::string text = "") {
  return {ms * 1'000'000, node, kind, id, a, b, c, std::move(text)};
}

// The rule that the merged traces break; "" for none.
std::string RuleOf(std::vector<WorkerTrace> traces) {
  ProcessRunEnd end;
  end.num_workers = static_cast<int>(traces.size());
  end.settle_time = absl::InfiniteDuration();
  RunResult result;
  JudgeInOrder(end, MergeTraces(std::move(traces)), result);
  return result.rule;
}

constexpr int64_t kError = 10'000'000;

// w0 calls w1, whose clock is behind by `behind_ms`, and gets its reply.
std::vector<WorkerTrace> ACall(int64_t behind_ms, uint64_t request_at_callee) {
  const int64_t max = INT64_MAX;
  return {{{Of(100, 0, EventKind::kCallStarted, 1, 1, max, 77),
            Of(104, 0, EventKind::kCallCompleted, 1, 1, 0, 88)},
           0},
          {{Of(102 - behind_ms, 1, EventKind::kRequest, 1, 0, 0,
               request_at_callee, "w0"),
            Of(103 - behind_ms, 1, EventKind::kReply, 1, 0, 0, 88, "w0")},
           kError}};
}

TEST(MergeTest, ACauseComesBeforeItsEffect) {
  for (const int64_t behind_ms : {-9, 0, 9}) {
    EXPECT_EQ(RuleOf(ACall(behind_ms, 77)), "") << behind_ms;
    const std::vector<Event> merged = MergeTraces(ACall(behind_ms, 77));
    ASSERT_EQ(merged.size(), 4u);
    EXPECT_EQ(merged[0].kind, EventKind::kCallStarted);
    EXPECT_EQ(merged[1].kind, EventKind::kRequest);
    EXPECT_EQ(merged[2].kind, EventKind::kReply);
    EXPECT_EQ(merged[3].kind, EventKind::kCallCompleted);
  }
}

TEST(MergeTest, WhatWasNeverSentIsStillFound) {
  for (const int64_t behind_ms : {-9, 0, 9}) {
    EXPECT_EQ(RuleOf(ACall(behind_ms, 78)), "byte-for-byte") << behind_ms;
  }
}

// w0 leaves the barrier at 100 ms; w1 enters it at `entered_ms`.
std::vector<WorkerTrace> ABarrier(int64_t entered_ms) {
  return {{{Of(50, 0, EventKind::kBarrierEntered, 1),
            Of(100, 0, EventKind::kBarrierLeft, 1)},
           0},
          {{Of(entered_ms, 1, EventKind::kBarrierEntered, 1),
            Of(entered_ms + 1, 1, EventKind::kBarrierLeft, 1)},
           kError}};
}

TEST(MergeTest, BarriersHaveTheBenefitOfTheDoubtUpToTheError) {
  EXPECT_EQ(RuleOf(ABarrier(99)), "");
  EXPECT_EQ(RuleOf(ABarrier(109)), "");
  EXPECT_EQ(RuleOf(ABarrier(111)), "barrier");
}

TEST(MergeTest, NoEventIsLostInATraceThatCannotBe) {
  // Each event would have to come after the other one: no execution is like
  // this.
  std::vector<WorkerTrace> traces = {
      {{Of(1, 0, EventKind::kRequest, 5, 0, 0, 7, "w1"),
        Of(2, 0, EventKind::kCallStarted, 6, 1, INT64_MAX, 8)},
       0},
      {{Of(1, 1, EventKind::kRequest, 6, 0, 0, 8, "w0"),
        Of(2, 1, EventKind::kCallStarted, 5, 0, INT64_MAX, 7)},
       0}};
  EXPECT_EQ(MergeTraces(traces).size(), 4u);
  EXPECT_EQ(RuleOf(traces), "byte-for-byte");
}

}  // namespace
}  // namespace reprise
