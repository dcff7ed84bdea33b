#include "agent/client/retry.h"

#include <atomic>
#include <limits>
#include <memory>
#include <set>
#include <vector>

#include "agent/call_error.h"
#include "agent/runtime/timer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/runtime/manual_runtime.h"

namespace reprise::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const RetryOptions kOptions = {.max_retries = 4,
                               .retry_duration = absl::Seconds(1),
                               .backoff = 1.5,
                               .jitter = 0};
// The powers of 1.5.
constexpr double kPauses[] = {1, 1.5, 2.25, 3.375};

TEST(RetryPauseTest, GrowsByTheBackoff) {
  for (int retry = 0; retry < 4; ++retry) {
    EXPECT_EQ(RetryPause(kOptions, retry, retry),
              absl::Seconds(kPauses[retry]));
  }
  EXPECT_EQ(RetryPause(
                {.retry_duration = absl::Seconds(2), .backoff = 1, .jitter = 0},
                7, 0),
            absl::Seconds(2));
}

TEST(RetryPauseTest, IsCappedWhateverThePower) {
  RetryOptions options = kOptions;
  options.backoff = 100;
  options.max_pause = absl::Seconds(30);
  for (const int retry : {2, 10, 200, 1'000'000}) {
    EXPECT_EQ(RetryPause(options, retry, 0), absl::Seconds(30)) << retry;
  }
  options.retry_duration = absl::ZeroDuration();
  EXPECT_EQ(RetryPause(options, 1'000'000, 0), absl::ZeroDuration());
}

TEST(RetryPauseTest, IsShortenedByTheJitterAtMost) {
  RetryOptions options = kOptions;
  options.jitter = 0.25;
  std::set<absl::Duration> pauses;
  uint64_t random = 88172645463325252;
  for (int i = 0; i < 1000; ++i) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    const absl::Duration pause = RetryPause(options, 0, random);
    EXPECT_LE(pause, absl::Seconds(1));
    EXPECT_GT(pause, absl::Seconds(0.75));
    pauses.insert(pause);
  }
  EXPECT_GT(pauses.size(), 900u);
  EXPECT_LT(*pauses.begin(), absl::Seconds(0.76));
  EXPECT_GT(*pauses.rbegin(), absl::Seconds(0.99));
}

TEST(RetryOptionsTest, AreCheckedAndBounded) {
  EXPECT_TRUE(Validate(RetryOptions()).ok());
  EXPECT_TRUE(Validate(RetryOptions{.backoff = 100, .jitter = 1}).ok());
  for (const RetryOptions& bad : {
           RetryOptions{.backoff = 1e300},
           RetryOptions{.backoff = std::numeric_limits<double>::infinity()},
           RetryOptions{.max_pause = -absl::Seconds(1)},
           RetryOptions{.retry_duration = absl::InfiniteDuration(),
           .max_pause = absl::InfiniteDuration()},
           RetryOptions{.jitter = -0.1},
           RetryOptions{.jitter = 1.1},
           RetryOptions{.jitter = std::numeric_limits<double>::quiet_NaN()},
           RetryOptions{.total_timeout = absl::ZeroDuration()},
       }) {
    EXPECT_TRUE(absl::IsInvalidArgument(Validate(bad)));
  }
}

// Attempts that fail at once, over a clock that stands still.
class AttemptsTest : public ::testing::Test {
 protected:
  AttemptsTest() : timer_(runtime_, "timer"), activity_(runtime_) {}
  ~AttemptsTest() override {
    retrier_->Close(absl::CancelledError(""));
    timer_.Stop();
  }

  Future Start(const RetryOptions& options, absl::Time deadline,
               absl::Status failure) {
    return retrier_->Start(
        options, deadline,
        [this, failure](bool) {
          ++attempts_;
          return Future::Ready(runtime_, failure);
        },
        activity_.StartCall());
  }

  ManualRuntime runtime_;
  Timer timer_;
  Activity activity_;
  const std::shared_ptr<Retrier> retrier_ =
      std::make_shared<Retrier>(runtime_, timer_, nullptr);
  std::atomic<int> attempts_ = 0;
};

TEST_F(AttemptsTest, NoneBeginsAfterTheDeadline) {
  const Future call = Start(kOptions, runtime_.Now() + absl::Milliseconds(2499),
                            absl::UnavailableError("busy"));
  runtime_.AwaitWaits(1);
  EXPECT_FALSE(call.done());
  runtime_.AdvanceTo(runtime_.Now() + absl::Seconds(1));
  runtime_.AwaitWaits(2);
  // The second retry would come 1.5 s later, a millisecond late.
  ASSERT_TRUE(call.done());
  EXPECT_EQ(attempts_, 2);
  EXPECT_TRUE(absl::IsUnavailable(call.status()));
  EXPECT_THAT(call.status().message(),
              HasSubstr("before its deadline, in 2 attempts. The last failure: "
                        "busy"));
}

TEST_F(AttemptsTest, ThePredicateDecides) {
  RetryOptions options = kOptions;
  options.retry_duration = absl::ZeroDuration();
  options.retry_if = [](const absl::Status& status) {
    return absl::IsNotFound(status);
  };
  EXPECT_TRUE(absl::IsUnavailable(
      Start(options, absl::InfiniteFuture(), absl::UnavailableError(""))
          .status()));
  EXPECT_EQ(attempts_, 1);
  EXPECT_TRUE(absl::IsNotFound(
      Start(options, absl::InfiniteFuture(), absl::NotFoundError(""))
          .status()));
  EXPECT_EQ(attempts_, 1 + 5);
  options.retry_if = [](const absl::Status&) -> bool { throw 1; };
  EXPECT_TRUE(absl::IsUnavailable(
      Start(options, absl::InfiniteFuture(), absl::UnavailableError(""))
          .status()));
  EXPECT_EQ(attempts_, 1 + 5 + 1);
}

TEST_F(AttemptsTest, WhatNoRetryMendsIsNotRetried) {
  const Future call =
      Start(kOptions, absl::InfiniteFuture(),
            WithCallError(absl::ResourceExhaustedError("too large"),
                          {.source = CallErrorSource::kCaller}));
  ASSERT_TRUE(call.done());
  EXPECT_EQ(attempts_, 1);
  EXPECT_EQ(call.status().message(), "too large");
}

TEST(RetrierTest, AttemptsComeAfterPausesThatGrow) {
  ManualRuntime runtime;
  Timer timer(runtime, "timer");
  Activity activity(runtime);
  const auto retrier = std::make_shared<Retrier>(runtime, timer, nullptr);
  const absl::Time start = runtime.Now();
  // The first attempt is made here. The others are made by the timer's thread,
  // and this thread waits until that one sleeps again.
  std::vector<absl::Duration> attempts;
  const Future call = retrier->Start(
      kOptions, absl::InfiniteFuture(),
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
