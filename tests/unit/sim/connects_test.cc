// How connects over the simulated network end: answered, refused, repeated or
// given up.

#include <chrono>
#include <deque>
#include <future>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sim/network/topology.h"
#include "tests/unit/sim/stream_testing.h"

namespace reprise {
namespace {

using ::reprise::testing::Outcome;
using tensorpipe::transport::Connection;
using ::testing::StartsWith;

class ConnectsTest : public StreamTest {};

TEST_F(ConnectsTest, ARefusalDoesNotCrossASilentLink) {
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

TEST_F(ConnectsTest, AConnectThatIsNeverAnsweredTimesOut) {
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

TEST_F(ConnectsTest, AConnectToAMachineWithoutPower) {
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
TEST_F(ConnectsTest, ABacklogThatIsFullMakesConnectsLate) {
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

// The repetitions are held back with it, so that none is left.
TEST_F(ConnectsTest, AConnectThatWasHeldDoesNotComeAgain) {
  Drive([&] {
    const std::string address = listener_->addr();
    Kill(NodeDeath::kPowerCut);
    network().HoldOneWay(0, 1, 70 * kSecond);
    near_ = client_->connect(address);
    std::string place(4, '?');
    std::future<Outcome> read = testing::Read(*near_, place);
    Sleep(70 * kSecond + 50 * kMicrosecond);
    Restart();
    EXPECT_THAT(read.get().error, StartsWith("ETIMEDOUT"));
    EXPECT_EQ(now_ns() / kSecond, 127);
  });
}

TEST_F(ConnectsTest, AConnectIsDecidedWhenItArrives) {
  Drive([&] {
    const std::string address = listener_->addr();
    listener_->close();
    network().HoldOneWay(1, 0, 20 * kSecond);
    near_ = client_->connect(address);
    Sleep(kSecond);
    listener_ = server_->listen(address);
    std::string place(4, '?');
    EXPECT_THAT(testing::Read(*near_, place).get().error,
                StartsWith("ECONNREFUSED"));
    EXPECT_EQ(now_ns() / kSecond, 20);
  });
}

TEST_F(ConnectsTest, TheAnswerComesBeforeWhatTheServerSends) {
  NetworkOptions options = Exact();
  // The answer takes as long as the connect.
  ASSERT_TRUE(ApplyTopology({"link w0>w1 latency 1s"}, 2, options).ok());
  Drive(
      [&] {
        Connect();
        EXPECT_EQ(now_ns() / kSecond, 1);
        std::string place(4, '?');
        std::future<Outcome> read = testing::Read(*near_, place);
        testing::Write(*far_, "soon").wait();
        EXPECT_EQ(read.get().bytes, "soon");
        EXPECT_EQ(now_ns() / kSecond, 2);
      },
      options);
}

TEST_F(ConnectsTest, AClientThatDiesBeforeTheAnswerResets) {
  NetworkOptions options = Exact();
  options.latency_min_ns = kSecond;
  for (const NodeDeath death :
       {NodeDeath::kReset, NodeDeath::kKilled, NodeDeath::kPowerCut}) {
    Drive(
        [&] {
          Connect();
          std::string place(4, '?');
          std::future<Outcome> read = testing::Read(*far_, place);
          Kill(death, 0);
          const bool is_heard_of = death != NodeDeath::kPowerCut;
          EXPECT_EQ(read.wait_for(std::chrono::seconds(10)),
                    is_heard_of ? std::future_status::ready
                                : std::future_status::timeout);
          far_->close();
          EXPECT_THAT(read.get().error,
                      StartsWith(is_heard_of ? "ECONNRESET" : ""));
        },
        options);
    TearDown();
  }
}

}  // namespace
}  // namespace reprise
