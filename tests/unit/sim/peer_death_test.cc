// What the peers of a worker hear of its death over the simulated network, for
// each way to die.

#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/sim/stream_testing.h"

namespace reprise {
namespace {

using ::reprise::testing::Outcome;
using ::testing::StartsWith;

class PeerDeathTest : public StreamTest {};

TEST_F(PeerDeathTest, WhatAKilledWorkerWroteArrives) {
  Drive([&] {
    Connect();
    // Larger than a piece: it is still on its way.
    const std::string last(300'000, 'x');
    std::string place(last.size(), '?');
    testing::Write(*far_, last).wait();
    Kill(NodeDeath::kKilled);
    EXPECT_TRUE(testing::Read(*near_, place).get().bytes == last);
    EXPECT_THAT(testing::Read(*near_, place).get().error, StartsWith("EOF"));
  });
}

TEST_F(PeerDeathTest, WhatAKilledWorkerDidNotReadResets) {
  Drive([&] {
    Connect();
    testing::Write(*near_, "unread").wait();
    Sleep(kMillisecond);
    Kill(NodeDeath::kKilled);
    std::string place(4, '?');
    EXPECT_THAT(testing::Read(*near_, place).get().error,
                StartsWith("ECONNRESET"));
  });
}

TEST_F(PeerDeathTest, AWriteToAKilledWorkerFindsABrokenPipe) {
  Drive([&] {
    Connect();
    Kill(NodeDeath::kKilled);
    Sleep(kMillisecond);
    // It has not read the end of the stream.
    EXPECT_EQ(testing::Write(*near_, "x").get(), "");
    Sleep(kMillisecond);
    EXPECT_THAT(testing::Write(*near_, "x").get(), StartsWith("EPIPE"));
  });
}

TEST_F(PeerDeathTest, AMachineWithoutPowerIsNotHeardOf) {
  Drive([&] {
    Connect();
    Kill(NodeDeath::kPowerCut);
    std::string place(4, '?');
    std::future<Outcome> read = testing::Read(*near_, place);
    // Who sends nothing never hears of it.
    EXPECT_EQ(read.wait_for(std::chrono::minutes(30)),
              std::future_status::timeout);
    const int64_t start_ns = now_ns();
    EXPECT_EQ(testing::Write(*near_, "x").get(), "");
    EXPECT_THAT(read.get().error, StartsWith("ETIMEDOUT"));
    EXPECT_EQ((now_ns() - start_ns) / kSecond, 924);
  });
}

TEST_F(PeerDeathTest, ARestartedMachineResetsOldConnections) {
  Drive([&] {
    Connect();
    std::string place(4, '?');
    const int64_t start_ns = now_ns();
    std::future<Outcome> read = testing::Read(*near_, place);
    Kill(NodeDeath::kPowerCut);
    EXPECT_EQ(testing::Write(*near_, "x").get(), "");
    Sleep(2 * kSecond);
    Restart();
    // The retransmission after 0.2, 0.6 and 1.4 s.
    EXPECT_THAT(read.get().error, StartsWith("ECONNRESET"));
    EXPECT_EQ((now_ns() - start_ns) / kSecond, 3);
  });
  TearDown();
  Drive([&] {
    Connect();
    std::string place(4, '?');
    std::future<Outcome> read = testing::Read(*near_, place);
    Kill(NodeDeath::kPowerCut);
    Sleep(2 * kSecond);
    Restart();
    // A connection on which nothing was sent is half open until then.
    Sleep(kMinute);
    EXPECT_NE(read.wait_for(std::chrono::seconds(0)),
              std::future_status::ready);
    testing::Write(*near_, "x").wait();
    EXPECT_THAT(read.get().error, StartsWith("ECONNRESET"));
    EXPECT_EQ(now_ns() / kSecond, 62);
  });
}

// Not even what it wrote and closed before.
TEST_F(PeerDeathTest, AMachineWithoutPowerSendsNoEnd) {
  Drive([&] {
    Connect();
    std::string place(300'000, '?');
    std::future<Outcome> read = testing::Read(*near_, place);
    testing::Write(*far_, std::string(place.size(), 'x')).wait();
    far_->close();
    Kill(NodeDeath::kPowerCut);
    EXPECT_EQ(read.wait_for(std::chrono::minutes(30)),
              std::future_status::timeout);
    near_->close();
    read.wait();
  });
}

TEST_F(PeerDeathTest, AMachineWithoutPowerDoesNotReset) {
  Drive([&] {
    Connect();
    far_->close();
    far_ = nullptr;
    Sleep(kMillisecond);
    Kill(NodeDeath::kPowerCut);
    EXPECT_THAT(testing::Write(*near_, std::string(4'000'000, 'x')).get(),
                StartsWith("ETIMEDOUT"));
    EXPECT_EQ(now_ns() / kSecond, 924);
  });
}

// They own pieces of the abandoned agent.
TEST_F(PeerDeathTest, CallbacksOfTheDeadAreKept) {
  for (const NodeDeath death :
       {NodeDeath::kReset, NodeDeath::kKilled, NodeDeath::kPowerCut}) {
    Drive([&] {
      Connect();
      const auto owned = std::make_shared<int>();
      // More than is in flight and in the send buffer.
      const std::string bytes(4'000'000, 'x');
      for (int i = 0; i < 2; ++i) {
        far_->write(bytes.data(), bytes.size(),
                    [owned](const tensorpipe::Error&) {});
      }
      Kill(death);
      EXPECT_EQ(owned.use_count(), 3);
    });
    TearDown();
  }
}

}  // namespace
}  // namespace reprise
