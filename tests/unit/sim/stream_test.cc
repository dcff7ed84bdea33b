// What the simulated network does to bytes on their way: shared bandwidth, full
// buffers, losses, and links that are silent.

#include <chrono>
#include <cstdint>
#include <deque>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sim/network/topology.h"
#include "tests/unit/sim/stream_testing.h"

namespace reprise {
namespace {

using ::reprise::testing::Outcome;
using tensorpipe::transport::Connection;
using ::testing::StartsWith;

constexpr size_t kTenMegabytes = 10'000'000;

TEST_F(StreamTest, BandwidthIsShared) {
  Drive([&] {
    int64_t alone_ns = 0;
    for (const int connections : {1, 50}) {
      std::deque<
          std::pair<std::shared_ptr<Connection>, std::shared_ptr<Connection>>>
          ends;
      std::deque<std::string> places;
      std::deque<std::future<Outcome>> reads;
      std::deque<std::future<std::string>> writes;
      for (int i = 0; i < connections; ++i) {
        Connect();
        ends.emplace_back(near_, far_);
        places.emplace_back(kTenMegabytes, '?');
        reads.push_back(testing::Read(*far_, places.back()));
      }
      const int64_t start_ns = now_ns();
      for (auto& [near, far] : ends) {
        writes.push_back(
            testing::Write(*near, std::string(kTenMegabytes, 'x')));
      }
      for (auto& read : reads) EXPECT_EQ(read.get().error, "");
      for (auto& write : writes) EXPECT_EQ(write.get(), "");
      const int64_t took_ns = now_ns() - start_ns;
      if (connections == 1) alone_ns = took_ns;
      EXPECT_GE(took_ns, connections * 10 * kMillisecond);
      EXPECT_LT(took_ns, connections * 11 * kMillisecond);
    }
    EXPECT_LT(alone_ns, 11 * kMillisecond);
  });
}

TEST_F(StreamTest, ASmallFrameWaitsForAPieceAndNotForAll) {
  Drive([&] {
    Connect();
    const auto large = std::pair(near_, far_);
    Connect();
    std::string place(kTenMegabytes, '?');
    std::string small(4, '?');
    std::future<Outcome> large_read = testing::Read(*large.second, place);
    std::future<Outcome> small_read = testing::Read(*far_, small);
    std::future<std::string> written =
        testing::Write(*large.first, std::string(kTenMegabytes, 'x'));
    const int64_t start_ns = now_ns();
    testing::Write(*near_, "tiny").wait();
    EXPECT_EQ(small_read.get().bytes, "tiny");
    EXPECT_LT(now_ns() - start_ns, kMillisecond);
    EXPECT_EQ(large_read.get().error, "");
    EXPECT_GT(now_ns() - start_ns, 10 * kMillisecond);
    written.wait();
  });
}

TEST_F(StreamTest, WhatNobodyReadsIsNotWritten) {
  Drive([&] {
    Connect();
    constexpr size_t kFourMegabytes = size_t{4} << 20;
    std::deque<std::future<std::string>> writes;
    testing::Write(*near_, "small").wait();
    for (int i = 0; i < 32; ++i) {
      writes.push_back(
          testing::Write(*near_, std::string(kFourMegabytes, 'x')));
    }
    Sleep(kMinute);
    for (auto& write : writes) {
      EXPECT_NE(write.wait_for(std::chrono::seconds(0)),
                std::future_status::ready);
    }
    std::string small(5, '?');
    EXPECT_EQ(testing::Read(*far_, small).get().bytes, "small");
    for (auto& write : writes) {
      std::string place(kFourMegabytes, '?');
      EXPECT_EQ(testing::Read(*far_, place).get().error, "");
      static_cast<void>(write);
    }
    for (auto& write : writes) EXPECT_EQ(write.get(), "");
  });
}

// As with a real socket: whoever gives memory back before its write is done has
// sent what others have put there.
TEST_F(StreamTest, WhatWaitsForTheSendBufferIsReadWhenItFits) {
  Drive([&] {
    Connect();
    constexpr size_t kTwoMegabytes = size_t{2} << 20;
    auto before = testing::Write(*near_, std::string(kTwoMegabytes, 'x'));
    std::string bytes(1000, 'a');
    std::promise<void> written;
    near_->write(bytes.data(), bytes.size(),
                 [&](const tensorpipe::Error&) { written.set_value(); });
    Sleep(kMinute);
    bytes.assign(1000, 'b');
    std::string into(kTwoMegabytes, '?');
    EXPECT_EQ(testing::Read(*far_, into).get().error, "");
    written.get_future().wait();
    bytes.assign(1000, 'c');
    std::string arrived(1000, '?');
    EXPECT_EQ(testing::Read(*far_, arrived).get().bytes,
              std::string(1000, 'b'));
    EXPECT_EQ(before.get(), "");
  });
}

TEST_F(StreamTest, WorkersOfAHostHaveItsLoopback) {
  NetworkOptions options = Exact();
  options.hosts = {0, 0};
  options.loopback.latency_spread_ns = 0;
  options.loopback.spike_one_in = 0;
  Drive(
      [&] {
        Connect();
        std::string place(4, '?');
        std::future<Outcome> read = testing::Read(*far_, place);
        const int64_t start_ns = now_ns();
        testing::Write(*near_, "tiny").wait();
        read.wait();
        EXPECT_LT(now_ns() - start_ns, 15 * kMicrosecond);
      },
      options);
}

// Neither an end, nor a reset, nor a refusal comes before the link heals.
TEST_F(StreamTest, NothingCrossesASilentLink) {
  enum What { kEnd, kReset, kCrash, kKill };
  for (const What what : {kEnd, kReset, kCrash, kKill}) {
    Drive([&] {
      Connect();
      std::string place(4, '?');
      // A reset breaks the near end itself at once.
      std::future<Outcome> read =
          testing::Read(what == kReset ? *far_ : *near_, place);
      network().Hold(0, 1, 20 * kSecond);
      Sleep(kSecond);
      if (what == kEnd) far_->close();
      if (what == kReset) network().Cut(1, 0, BreakKind::kReset);
      if (what == kCrash) Kill(NodeDeath::kReset);
      if (what == kKill) Kill(NodeDeath::kKilled);
      EXPECT_NE(read.get().error, "");
      EXPECT_EQ(now_ns() / kSecond, 20) << what;
    });
    TearDown();
  }
}

TEST_F(StreamTest, OneDirectionMayBeSilent) {
  Drive([&] {
    Connect();
    network().HoldOneWay(0, 1, Scheduler::kNever);
    std::string there(4, '?');
    std::string back(4, '?');
    std::future<Outcome> lost = testing::Read(*far_, there);
    std::future<Outcome> read = testing::Read(*near_, back);
    testing::Write(*near_, "lost").wait();
    testing::Write(*far_, "come").wait();
    EXPECT_EQ(read.get().bytes, "come");
    const int64_t start_ns = now_ns();
    // Nothing that w0 sends is acknowledged.
    EXPECT_THAT(testing::Read(*near_, back).get().error,
                StartsWith("ETIMEDOUT"));
    EXPECT_EQ((now_ns() - start_ns) / kSecond, 924);
    // And nothing that w0 acknowledges is heard of.
    EXPECT_THAT(lost.get().error, StartsWith("ETIMEDOUT"));
    EXPECT_EQ((now_ns() - start_ns) / kSecond, 924);
  });
}

TEST_F(StreamTest, WhatIsLostComesLateAndInOrder) {
  NetworkOptions options = Exact();
  ASSERT_TRUE(ApplyTopology({"link w0>w1 loss 4"}, 2, options).ok());
  Drive(
      [&] {
        Connect();
        int late = 0;
        for (int i = 0; i < 100; ++i) {
          const std::string sent(4, static_cast<char>('a' + i % 26));
          std::string place(4, '?');
          std::future<Outcome> read = testing::Read(*far_, place);
          const int64_t start_ns = now_ns();
          testing::Write(*near_, sent).wait();
          EXPECT_EQ(read.get().bytes, sent);
          if (now_ns() - start_ns >= kFirstRetransmissionNs) ++late;
          read = testing::Read(*near_, place);
          const int64_t back_ns = now_ns();
          testing::Write(*far_, sent).wait();
          read.wait();
          EXPECT_LT(now_ns() - back_ns, kMillisecond);
        }
        EXPECT_GT(late, 10);
        EXPECT_LT(late, 50);
      },
      options);
}

// A hold strikes what it holds back, and nothing else.
TEST_F(StreamTest, AHoldOfTheOtherDirectionDoesNotStrike) {
  Drive([&] {
    Connect();
    network().HoldOneWay(1, 0, 10 * kSecond);
    std::string place(4, '?');
    std::future<Outcome> read = testing::Read(*far_, place);
    testing::Write(*near_, "tiny").wait();
    EXPECT_EQ(read.get().bytes, "tiny");
    EXPECT_EQ(world_->injections(FaultKind::kHold), 0);
    read = testing::Read(*near_, place);
    testing::Write(*far_, "back").wait();
    EXPECT_EQ(read.get().bytes, "back");
    EXPECT_GT(world_->injections(FaultKind::kHold), 0);
  });
}

TEST_F(StreamTest, AHoldMayLastLongerThanTcpTries) {
  Drive([&] {
    Connect();
    network().HoldOneWay(0, 1, 2000 * kSecond);
    std::string place(4, '?');
    testing::Write(*near_, "lost").wait();
    EXPECT_THAT(testing::Read(*near_, place).get().error,
                StartsWith("ETIMEDOUT"));
    EXPECT_EQ(now_ns() / kSecond, 924);
  });
}

TEST_F(StreamTest, AResetEndsWhatAClosedEndHasLeft) {
  Drive([&] {
    Connect();
    std::future<std::string> write =
        testing::Write(*near_, std::string(kTenMegabytes, 'x'));
    Sleep(kSecond);
    near_->close();
    EXPECT_NE(write.get(), "");
    // What is in the send buffer waits for room.
    EXPECT_EQ(network().num_lingering_endpoints(), 1);
    far_->close();
    Sleep(kMillisecond);
    EXPECT_EQ(network().num_lingering_endpoints(), 0);
  });
}

}  // namespace
}  // namespace reprise
