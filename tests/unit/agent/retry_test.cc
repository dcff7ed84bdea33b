#include "agent/client/retry.h"

#include <memory>
#include <vector>

#include "agent/runtime/timer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/runtime/manual_runtime.h"

namespace reprise::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr RetryOptions kOptions = {
    .max_retries = 4, .retry_duration = absl::Seconds(1), .backoff = 1.5};
// The powers of 1.5.
constexpr double kPauses[] = {1, 1.5, 2.25, 3.375};

TEST(RetryPauseTest, GrowsByTheBackoff) {
  for (int retry = 0; retry < 4; ++retry) {
    EXPECT_EQ(RetryPause(kOptions, retry), absl::Seconds(kPauses[retry]));
  }
  EXPECT_EQ(RetryPause({.retry_duration = absl::Seconds(2), .backoff = 1}, 7),
            absl::Seconds(2));
}

TEST(RetrierTest, AttemptsComeAfterPausesThatGrow) {
  ManualRuntime runtime;
  Timer timer(runtime, "timer");
  Activity activity(runtime);
  const auto retrier = std::make_shared<Retrier>(runtime, timer, nullptr);
  const absl::Time start = runtime.Now();
  // The first is made here, the others by the timer's thread, while this one
  // waits for it to sleep again.
  std::vector<absl::Duration> attempts;
  const Future call = retrier->Start(
      kOptions,
      [&](bool is_retry) {
        EXPECT_EQ(is_retry, !attempts.empty());
        attempts.push_back(runtime.Now() - start);
        return Future::Ready(runtime, absl::UnavailableError("busy"));
      },
      activity.StartCall());
  int waits = 0;
  absl::Time next = start;
  for (const double pause : kPauses) {
    next += absl::Seconds(pause);
    runtime.AwaitWaits(++waits);
    const size_t made = attempts.size();
    runtime.AdvanceTo(next - absl::Nanoseconds(1));
    runtime.AwaitWaits(++waits);
    EXPECT_EQ(attempts.size(), made);
    runtime.AdvanceTo(next);
  }
  runtime.AwaitWaits(++waits);
  EXPECT_THAT(attempts, ElementsAre(absl::ZeroDuration(), absl::Seconds(1),
                                    absl::Seconds(2.5), absl::Seconds(4.75),
                                    absl::Seconds(8.125)));
  ASSERT_TRUE(call.done());
  EXPECT_THAT(call.status().message(), HasSubstr("max retries (4)"));
  EXPECT_EQ(retrier->num_retries(), 4);
  EXPECT_EQ(activity.counts().running[Activity::kCall], 0);
  retrier->Close(absl::CancelledError(""));
  timer.Stop();
}

}  // namespace
}  // namespace reprise::testing
