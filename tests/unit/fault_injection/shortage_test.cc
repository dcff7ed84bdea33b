// What a worker cannot do that lacks descriptors, threads or memory, and that
// it can again.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/unit/fault_injection/injector_testing.h"

namespace reprise {
namespace {

// When calls ended with this code, in nanoseconds.
std::vector<int64_t> EndsOf(const RunResult& result, absl::StatusCode code) {
  std::vector<int64_t> ends;
  for (const Event& event : result.events) {
    if (event.kind == EventKind::kCallCompleted && event.code() == code) {
      ends.push_back(event.time_ns);
    }
  }
  return ends;
}

TEST(ShortageTest, WithoutDescriptorsNothingIsConnected) {
  const RunResult caller = RunWith(
      {"no-descriptors w1 after 1s for 500ms", "cut w0-w1 after 1001ms reset"});
  EXPECT_GT(Injections(caller, "no-descriptors"), 0);
  int64_t lacks = 0;
  for (const Event& event : caller.events) {
    if (event.kind != EventKind::kCallCompleted) continue;
    if (event.text.find("EMFILE") == std::string::npos) continue;
    ++lacks;
    EXPECT_EQ(event.code(), absl::StatusCode::kUnavailable) << event.text;
    EXPECT_GE(event.time_ns, 1'000'000'000);
    EXPECT_LE(event.time_ns, 1'500'000'000);
  }
  EXPECT_GT(lacks, 1);
  EXPECT_GT(FailedCalls(caller, absl::StatusCode::kOk), 15);
}

// Its kernel takes connections, and they wait.
TEST(ShortageTest, WithoutDescriptorsNothingIsAccepted) {
  const auto ended_meanwhile = [](const RunResult& result) {
    const std::vector<int64_t> ends = EndsOf(result, absl::StatusCode::kOk);
    return std::count_if(ends.begin(), ends.end(), [](int64_t end_ns) {
      return end_ns > 1'010'000'000 && end_ns < 1'400'000'000;
    });
  };
  const std::string cut = "cut w0-w1 after 1001ms reset";
  EXPECT_GT(ended_meanwhile(RunWith({cut})), 2);
  const RunResult result =
      RunWith({"no-descriptors w0 after 1s for 400ms", cut});
  EXPECT_GT(Injections(result, "no-descriptors"), 0);
  EXPECT_EQ(Count(result, EventKind::kRefused), 0);
  EXPECT_EQ(ended_meanwhile(result), 0);
  EXPECT_EQ(FailedCalls(result, absl::StatusCode::kOk), 30);
}

TEST(ShortageTest, WithoutDescriptorsAListenerIsNotReplaced) {
  const RunResult result =
      RunWith({"drop-connect w0 after 1s",
               "no-descriptors w0 when w0 listener.failed#1 for 1s"});
  EXPECT_GT(Injections(result, "no-descriptors"), 1);
  EXPECT_EQ(Count(result, EventKind::kListenerFailed, 0), 1);
  std::vector<int64_t> opened;
  for (const Event& event : result.events) {
    if (event.kind == EventKind::kListening && event.node == 0) {
      opened.push_back(event.time_ns);
    }
  }
  ASSERT_EQ(opened.size(), 2u);
  EXPECT_GT(opened[1], 2'000'000'000);
}

TEST(ShortageTest, WithoutThreadsAnAgentDoesNotStart) {
  const RunResult result = RunWith({"no-threads w1 after 0s for 1s"});
  EXPECT_GT(Injections(result, "no-threads"), 0);
  const auto note = std::find_if(
      result.events.begin(), result.events.end(), [](const Event& event) {
        return event.kind == EventKind::kNote &&
               event.text.find(
                   "RESOURCE_EXHAUSTED: cannot start "
                   "the thread") != std::string::npos;
      });
  EXPECT_NE(note, result.events.end());
}

TEST(ShortageTest, WithoutMemoryForTensorsTheirCallsFail) {
  const std::vector<std::string> faults = {
      "no-tensor-memory w0 after 1s for 1s"};
  const RunResult result = RunWith(faults, /*tensor_bytes=*/1000);
  const std::vector<int64_t> failed =
      EndsOf(result, absl::StatusCode::kResourceExhausted);
  EXPECT_GT(failed.size(), 5u);
  EXPECT_GT(failed.front(), 1'000'000'000);
  EXPECT_LT(failed.back(), 2'010'000'000);
  // Their connection is as good as it was.
  EXPECT_EQ(FailedCalls(result, absl::StatusCode::kUnavailable), 0);
  EXPECT_EQ(static_cast<size_t>(FailedCalls(result, absl::StatusCode::kOk)),
            30 - failed.size());
  const RunResult without = RunWith(faults);
  EXPECT_EQ(FailedCalls(without, absl::StatusCode::kOk), 30);
  EXPECT_EQ(without.never_struck, faults);
}

}  // namespace
}  // namespace reprise
