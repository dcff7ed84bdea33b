// What streams have done is called back once, in order, and with few callbacks
// of the driver's.

#include "agent/transport/cuda/stream_watch.h"

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "agent/runtime/runtime.h"
#include "gtest/gtest.h"
#include "tests/unit/transport/cuda/fake_gpus.h"

namespace reprise {
namespace {

class StreamWatchTest : public testing::Test {
 protected:
  ~StreamWatchTest() override {
    watch_.reset();
    callbacks_.Join();
  }
  // The callback adds `number` to `called_`.
  absl::Status Watch(GpuStream stream, int number, int num_looks = 0) {
    return watch_->After(
        stream,
        [this, number](const absl::Status& status) {
          EXPECT_TRUE(status.ok() || may_fail_) << status;
          called_.push_back(number);
        },
        num_looks);
  }

  FakeGpus gpus_{1, 1};
  FakeDriver driver_{gpus_};
  CallbackThread callbacks_{RealRuntime()};
  std::optional<StreamWatch> watch_{std::in_place, driver_, callbacks_};
  std::atomic<bool> may_fail_ = false;
  std::vector<int> called_;  // complete once `callbacks_` is joined
};

std::vector<int> FirstNumbers(int count) {
  std::vector<int> numbers;
  for (int i = 0; i < count; ++i) numbers.push_back(i);
  return numbers;
}

TEST_F(StreamWatchTest, ManyAreCalledBackInTheirOrderByFewCallbacks) {
  const GpuStream stream = *driver_.CreateStream(0);
  driver_.Hold(stream);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(Watch(stream, i).ok());
  // That of the first, which cannot have come.
  EXPECT_EQ(driver_.num_callbacks(), 1);
  driver_.Release(stream);
  ASSERT_TRUE(driver_.Synchronize(stream).ok());
  std::promise<void> last;
  ASSERT_TRUE(
      watch_->After(stream, [&](const absl::Status&) { last.set_value(); })
          .ok());
  last.get_future().wait();
  EXPECT_EQ(called_, FirstNumbers(50));
  EXPECT_LE(driver_.num_callbacks(), 10);
  driver_.DestroyStream(stream);
}

// The queue runs empty, and does not, while more come.
TEST_F(StreamWatchTest, NothingIsForgottenWhileMoreCome) {
  const GpuStream stream = *driver_.CreateStream(0);
  constexpr int kNumber = 2000;
  for (int i = 0; i < kNumber; ++i) {
    ASSERT_TRUE(Watch(stream, i).ok());
    if (i % 7 == 0) std::this_thread::yield();
    if (i % 100 == 0) driver_.Synchronize(stream).IgnoreError();
  }
  watch_.reset();  // what is owed comes nevertheless
  callbacks_.Join();
  EXPECT_EQ(called_, FirstNumbers(kNumber));
  driver_.DestroyStream(stream);
}

TEST_F(StreamWatchTest, WhatIsDoneAtOnceNeedsNoCallback) {
  const GpuStream stream = *driver_.CreateStream(0);
  ASSERT_TRUE(Watch(stream, 0, /*num_looks=*/1'000'000).ok());
  EXPECT_EQ(called_, FirstNumbers(1));
  EXPECT_EQ(driver_.num_callbacks(), 0);
  // What comes after one that is not done keeps its place.
  const GpuStream other = *driver_.CreateStream(0);
  driver_.Hold(other);
  ASSERT_TRUE(Watch(other, 1, /*num_looks=*/3).ok());
  ASSERT_TRUE(Watch(stream, 2, /*num_looks=*/3).ok());
  EXPECT_EQ(called_, FirstNumbers(1));
  driver_.Release(other);
  watch_.reset();
  callbacks_.Join();
  EXPECT_EQ(called_, FirstNumbers(3));
  driver_.DestroyStream(stream);
  driver_.DestroyStream(other);
}

// Each call of the driver's fails once: an error, or a callback, never both.
TEST_F(StreamWatchTest, AnErrorOfTheDriverLosesNothing) {
  const GpuStream stream = *driver_.CreateStream(0);
  int number = 0;
  may_fail_ = true;
  for (int n = 1; n < 30; ++n) {
    driver_.FailCall(n);
    for (int i = 0; i < 5; ++i) {
      if (Watch(stream, number).ok()) ++number;
    }
    driver_.Synchronize(stream).IgnoreError();
    driver_.FailCall(0);
  }
  watch_.reset();
  callbacks_.Join();
  EXPECT_EQ(called_, FirstNumbers(number));
  EXPECT_GT(number, 30);
  driver_.DestroyStream(stream);
}

// The driver fails once when it is asked for the callback of the second of two,
// and when that is called back it asks for more.
TEST_F(StreamWatchTest, WhatComesWhileTheQueueIsEmptiedIsCalledBackOnce) {
  const GpuStream first = *driver_.CreateStream(0);
  const GpuStream second = *driver_.CreateStream(0);
  may_fail_ = true;
  int number = 0;
  for (int n = 1; n < 12; ++n) {
    driver_.Hold(first);
    driver_.Hold(second);
    ASSERT_TRUE(Watch(first, number++).ok());
    std::promise<void> over;
    ASSERT_TRUE(watch_
                    ->After(second,
                            [&](const absl::Status&) {
                              called_.push_back(number++);
                              if (Watch(first, number).ok()) ++number;
                              over.set_value();
                            })
                    .ok());
    driver_.FailCall(n);
    driver_.Release(first);
    // Time for the first to be called back alone.
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    driver_.Release(second);
    over.get_future().wait();
    driver_.FailCall(0);
    driver_.Synchronize(first).IgnoreError();
    // A callback that comes too late would take the next one's place.
    std::promise<void> last;
    ASSERT_TRUE(
        watch_->After(first, [&](const absl::Status&) { last.set_value(); })
            .ok());
    last.get_future().wait();
  }
  watch_.reset();
  callbacks_.Join();
  EXPECT_EQ(called_, FirstNumbers(number));
  driver_.DestroyStream(first);
  driver_.DestroyStream(second);
}

}  // namespace
}  // namespace reprise
