#include "agent/device/gpu_streams.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/runtime/runtime.h"
#include "gtest/gtest.h"
#include "tests/unit/device/fake_gpus.h"

namespace reprise {
namespace {

using Waits = std::vector<std::pair<GpuStream, GpuStream>>;

StreamSet SetOf(std::vector<GpuStream> streams) {
  StreamSet set;
  for (const GpuStream& stream : streams) set.Set(stream);
  return set;
}

TEST(StreamSetTest, HasOneStreamADevice) {
  StreamSet set;
  EXPECT_TRUE(set.empty());
  EXPECT_EQ(set.On(3), (GpuStream{3, GpuStream::kDefault}));
  EXPECT_FALSE(set.Has(3));
  set.Set({3, 7});
  set.Set({0, 5});
  set.Set({3, 8});
  EXPECT_EQ(set.streams(), (std::vector<GpuStream>{{0, 5}, {3, 8}}));
  EXPECT_EQ(set.On(3), (GpuStream{3, 8}));
  EXPECT_EQ(set.On(1), (GpuStream{1, GpuStream::kDefault}));
  EXPECT_TRUE(set.Has(0));
  EXPECT_FALSE(set.Has(1));
  EXPECT_FALSE(set.empty());
}

class GpuStreamsTest : public testing::Test {
 protected:
  ~GpuStreamsTest() override {
    streams.reset();
    EXPECT_EQ(gpus.live_events, 0);
    EXPECT_EQ(gpus.live_streams, 0);
  }
  FakeGpus gpus{3};
  std::optional<GpuStreams> streams{std::in_place, RealRuntime(), gpus};
};

TEST_F(GpuStreamsTest, MessagesTakeTurns) {
  std::vector<StreamSet> sets;
  for (int i = 0; i < GpuStreams::kStreamsPerDevice + 1; ++i) {
    auto set = streams->Next({2, 0});
    ASSERT_TRUE(set.ok()) << set.status();
    ASSERT_EQ(set->streams().size(), 2u);
    EXPECT_TRUE(set->Has(0) && set->Has(2));
    for (const StreamSet& earlier : sets) {
      EXPECT_EQ(earlier.On(2) == set->On(2),
                i == GpuStreams::kStreamsPerDevice && &earlier == &sets[0]);
    }
    sets.push_back(*set);
  }
  EXPECT_EQ(gpus.live_streams, 2 * GpuStreams::kStreamsPerDevice);
  EXPECT_TRUE(streams->Next({})->empty());
  for (int device : {-1, 3}) {
    EXPECT_EQ(streams->Next({device}).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(GpuStreamsTest, EachStreamWaitsForThatOfItsDevice) {
  const StreamSet later = SetOf({{0, 1}, {1, 2}});
  const StreamSet earlier = SetOf({{0, 3}, {2, 5}});
  ASSERT_TRUE(streams->WaitFor(later, earlier, {0, 1, 2}).ok());
  EXPECT_EQ(gpus.waits, (Waits{{{0, 1}, {0, 3}},
                               {{1, 2}, {1, GpuStream::kDefault}},
                               {{2, GpuStream::kDefault}, {2, 5}}}));
  gpus.waits.clear();
  ASSERT_TRUE(streams->WaitFor(GpuStream{1, 2}, earlier).ok());
  EXPECT_EQ(gpus.waits, (Waits{{{1, 2}, {0, 3}}, {{1, 2}, {2, 5}}}));
  gpus.waits.clear();
  // A stream need not wait for itself.
  ASSERT_TRUE(streams->WaitFor(later, later, {0, 1, 2}).ok());
  EXPECT_TRUE(gpus.waits.empty());
}

TEST_F(GpuStreamsTest, EventsAreUsedAgain) {
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(streams->WaitFor(GpuStream{0, 1}, GpuStream{0, 2}).ok());
  }
  EXPECT_EQ(gpus.live_events, 1);
  // An event of another device is another event.
  ASSERT_TRUE(streams->WaitFor(GpuStream{0, 1}, GpuStream{1, 2}).ok());
  EXPECT_EQ(gpus.live_events, 2);

  std::vector<GpuEvent> events;
  for (size_t i = 0; i < GpuStreams::kMaxKeptEvents + 10; ++i) {
    events.push_back(*streams->Record(GpuStream{0, 1}));
  }
  for (GpuEvent event : events) streams->Release(event);
  EXPECT_EQ(gpus.live_events, static_cast<int>(GpuStreams::kMaxKeptEvents) + 1);
}

TEST_F(GpuStreamsTest, ErrorsAreTheDrivers) {
  gpus.record_error = absl::UnavailableError("cuda:0 is lost");
  EXPECT_EQ(streams->WaitFor(GpuStream{0, 1}, GpuStream{0, 2}),
            gpus.record_error);
  EXPECT_EQ(gpus.live_events, 0);
  EXPECT_EQ(streams->WaitFor(GpuStream{0, 1}, GpuStream{9, 2}).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(GpuStreamsTest, SynchronizeWaitsForAll) {
  gpus.Hold({0, 1});
  const auto event = streams->Record(GpuStream{0, 1});
  ASSERT_TRUE(event.ok());
  EXPECT_FALSE(*gpus.IsDone(*event));
  EXPECT_TRUE(streams->Synchronize(SetOf({{0, 1}, {1, 2}})).ok());
  EXPECT_TRUE(*gpus.IsDone(*event));
  EXPECT_EQ(gpus.synchronized, (std::vector<GpuStream>{{0, 1}, {1, 2}}));
  streams->Release(*event);
}

}  // namespace
}  // namespace reprise
