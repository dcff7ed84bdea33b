// What the simulated network does to bytes on their way: shared bandwidth, full
// buffers, links that are silent, and peers that die in different ways.

#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sim/network/network.h"
#include "sim/network/topology.h"
#include "tensorpipe/transport/context.h"
#include "tests/unit/sim/network_testing.h"
#include "tests/unit/transport/connections.h"

namespace reprise {
namespace {

using ::reprise::testing::Outcome;
using tensorpipe::transport::Connection;
using tensorpipe::transport::Context;
using tensorpipe::transport::Listener;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int64_t kMinute = 60 * kSecond;

NetworkOptions Exact() {
  NetworkOptions options;
  options.latency_spread_ns = 0;
  options.spike_one_in = 0;
  return options;
}

// A driver on a node of its own, which uses the transports of w0 and w1.
class StreamTest : public ::testing::Test {
 protected:
  void Drive(const std::function<void()>& body,
             const NetworkOptions& options = Exact()) {
    world_ =
        std::make_unique<NetworkWorld>(With(Policy::kCooperative), options);
    world_->world().Start(9, "driver", [&] {
      client_ = MakeContext(0);
      server_ = MakeContext(1);
      listener_ = server_->listen("");
      body();
      Forget();
    });
    EXPECT_EQ(world_->Run(), reprise::Outcome::kFinished)
        << ::testing::PrintToString((*world_).world()->DescribeFibers());
    EXPECT_EQ(network().num_open_endpoints(), 0);
  }
  void TearDown() override {
    Forget();
    world_ = nullptr;
  }
  // Of nodes that have died, nothing is destroyed.
  void Forget() {
    if (is_dead_) {
      auto* const kept =
          new std::vector<std::shared_ptr<void>>{server_, listener_, far_};
      static_cast<void>(kept);
    }
    is_dead_ = false;
    near_ = far_ = nullptr;
    listener_ = nullptr;
    client_ = server_ = nullptr;
  }

  TestWorld& world() { return world_->world(); }
  Network& network() { return world_->network(); }
  int64_t now_ns() { return world().now_ns(); }
  void Sleep(int64_t ns) {
    world().runtime(9).SleepUntil(world().After(absl::Nanoseconds(ns)));
  }
  std::shared_ptr<Context> MakeContext(int32_t rank) {
    return network()
        .MakeTransports(world().node(rank), TransportOptions())
        .transports.front()
        .context;
  }
  void Connect() {
    auto accepted = testing::Accept(*listener_);
    near_ = client_->connect(listener_->addr());
    far_ = accepted.get().connection;
  }
  // Kills w1, with the driver on another node.
  void Kill(NodeDeath death) {
    is_dead_ = true;
    world()->Crash(world().node(1), death);
  }
  void Restart() { network().NodeIsUp(world().Restart(1)); }

  // When `future` is ready, it is this time or later.
  template <typename T>
  int64_t TimeOf(std::future<T>& future) {
    future.wait();
    return now_ns();
  }

  std::unique_ptr<NetworkWorld> world_;
  bool is_dead_ = false;  // w1's first incarnation
  std::shared_ptr<Context> client_;
  std::shared_ptr<Context> server_;
  std::shared_ptr<Listener> listener_;
  std::shared_ptr<Connection> near_;  // w0's
  std::shared_ptr<Connection> far_;   // w1's
};

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
      std::future<Outcome> read = testing::Read(*near_, place);
      network().Hold(0, 1, 20 * kSecond);
      Sleep(kSecond);
      if (what == kEnd) far_->close();
      if (what == kReset) network().Cut(1, 0, BreakKind::kReset);
      if (what == kCrash) Kill(NodeDeath::kReset);
      if (what == kKill) Kill(NodeDeath::kKilled);
      if (what == kReset) return;  // the near end itself is broken
      EXPECT_NE(read.get().error, "");
      EXPECT_EQ(now_ns() / kSecond, 20) << what;
    });
    TearDown();
  }
}

TEST_F(StreamTest, ARefusalDoesNotCrossASilentLink) {
  Drive([&] {
    const std::string address = listener_->addr();
    listener_->close();
    // The connect arrives.
    network().HoldOneWay(1, 0, 20 * kSecond);
    near_ = client_->connect(address);
    std::string place(4, '?');
    EXPECT_THAT(testing::Read(*near_, place).get().error,
                StartsWith("ECONNREFUSED"));
    EXPECT_EQ(now_ns() / kSecond, 20);
  });
}

TEST_F(StreamTest, AConnectThatIsNeverAnsweredTimesOut) {
  for (const bool there : {true, false}) {
    Drive([&] {
      // In one direction the connect is lost, in the other one the answer.
      network().HoldOneWay(there ? 0 : 1, there ? 1 : 0, Scheduler::kNever);
      const int64_t start_ns = now_ns();
      near_ = client_->connect(listener_->addr());
      std::string place(4, '?');
      EXPECT_THAT(testing::Read(*near_, place).get().error,
                  StartsWith("ETIMEDOUT"));
      EXPECT_EQ((now_ns() - start_ns) / kSecond, 127);
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

TEST_F(StreamTest, WhatAKilledWorkerWroteArrives) {
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

TEST_F(StreamTest, WhatAKilledWorkerDidNotReadResets) {
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

TEST_F(StreamTest, AWriteToAKilledWorkerFindsABrokenPipe) {
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

TEST_F(StreamTest, AMachineWithoutPowerIsNotHeardOf) {
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

TEST_F(StreamTest, ARestartedMachineResetsOldConnections) {
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

TEST_F(StreamTest, AConnectToAMachineWithoutPower) {
  for (const bool comes_back : {false, true}) {
    Drive([&] {
      const std::string address = listener_->addr();
      Kill(NodeDeath::kPowerCut);
      near_ = client_->connect(address);
      std::string place(4, '?');
      std::future<Outcome> read = testing::Read(*near_, place);
      Sleep(5 * kSecond);
      if (comes_back) Restart();
      EXPECT_THAT(read.get().error,
                  StartsWith(comes_back ? "ECONNREFUSED" : "ETIMEDOUT"));
      EXPECT_EQ(now_ns() / kSecond, comes_back ? 7 : 127);
    });
    TearDown();
  }
}

// The kernel takes connections for a process that does not run, but not any
// number of them.
TEST_F(StreamTest, ABacklogThatIsFullMakesConnectsLate) {
  NetworkOptions options = Exact();
  options.accept_backlog = 3;
  Drive(
      [&] {
        world()->Pause(world().node(1));
        std::deque<std::shared_ptr<Connection>> all;
        std::deque<std::future<std::string>> written;
        for (int i = 0; i < 4; ++i) {
          all.push_back(client_->connect(listener_->addr()));
          written.push_back(testing::Write(*all.back(), "x"));
        }
        for (int i = 0; i < 3; ++i) EXPECT_EQ(written[i].get(), "");
        EXPECT_LT(now_ns(), kMillisecond);
        Sleep(2 * kSecond);
        EXPECT_NE(written[3].wait_for(std::chrono::seconds(0)),
                  std::future_status::ready);
        world()->Resume(world().node(1));
        EXPECT_EQ(written[3].get(), "");
        EXPECT_EQ(now_ns() / kSecond, 3);  // the second repetition
        for (const auto& connection : all) connection->close();
      },
      options);
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

TEST(TopologyTest, LinesSayWhatLinksAreLike) {
  NetworkOptions options;
  const absl::Status status =
      ApplyTopology({"link w0,w1-w2 latency 20ms jitter 5ms",
                     "link w0>w1 bandwidth 1000", "host w1,w2"},
                    4, options);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(options.rules.size(), 2u);
  EXPECT_EQ(options.rules[0].from, (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(options.rules[0].to, (std::vector<int32_t>{2}));
  EXPECT_EQ(options.rules[0].latency_ns, 20 * kMillisecond);
  EXPECT_EQ(options.rules[0].jitter_ns, 5 * kMillisecond);
  EXPECT_FALSE(options.rules[0].one_way);
  EXPECT_TRUE(options.rules[1].one_way);
  EXPECT_EQ(options.rules[1].bytes_per_second, 1000);
  ASSERT_EQ(options.hosts.size(), 4u);
  EXPECT_EQ(options.hosts[1], options.hosts[2]);
  EXPECT_NE(options.hosts[0], options.hosts[1]);
  EXPECT_NE(options.hosts[0], options.hosts[3]);
  TestWorld world;
  const Links links(*world, options, [](FaultKind, int32_t, int32_t) {});
  EXPECT_EQ(links.OptionsOf(2, 0).latency_min_ns, 20 * kMillisecond);
  EXPECT_EQ(links.OptionsOf(0, 1).bytes_per_second, 1000);
  EXPECT_EQ(links.OptionsOf(1, 0).bytes_per_second, options.bytes_per_second);
  EXPECT_EQ(links.OptionsOf(3, 0).latency_min_ns, options.latency_min_ns);
}

TEST(TopologyTest, WhatIsWrongIsNamed) {
  const std::pair<const char*, const char*> lines[] = {
      {"", "it ends"},
      {"wire w0-w1 latency 1ms", "wire"},
      {"link w0-w9 latency 1ms", "w0-w9"},
      {"link w0 latency 1ms", "w0"},
      {"link w0-w1", "it ends"},
      {"link w0-w1 latency", "it ends"},
      {"link w0-w1 latency 5", "5"},
      {"link w0-w1 bandwidth 0", "0"},
      {"link w0-w1 loss 1", "1"},
      {"link w0-w1 colour red", "colour"},
      {"host", "it ends"},
      {"host w0,x", "w0,x"}};
  for (const auto& [line, named] : lines) {
    NetworkOptions options;
    const absl::Status status = ApplyTopology({line}, 2, options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(
        std::string(status.message()),
        HasSubstr(std::string(": ") + named + " where there should be "))
        << line;
  }
}

}  // namespace
}  // namespace reprise
