#include "sim/view/story.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;

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

}  // namespace
}  // namespace reprise
