// The doorman alone, on a loop of the test's own.

#include "agent/transport/uv/handshake_gate.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/transport/greetings.h"

namespace reprise {
namespace {

class DoormanTest : public ::testing::Test {
 protected:
  void Listen(Callers callers, uint64_t patience_ms) {
    ASSERT_EQ(uv_loop_init(&loop_), 0);
    uv_ip4_addr("127.0.0.1", 0, &address_);
    auto* const address = reinterpret_cast<sockaddr*>(&address_);
    socklen_t size = sizeof(address_);
    ASSERT_EQ(bind(server_, address, size), 0);
    ASSERT_EQ(listen(server_, 512), 0);
    ASSERT_EQ(getsockname(server_, address, &size), 0);
    doorman_ = std::make_shared<Doorman>(
        &loop_, callers, [this](int fd) { guests_.push_back(fd); },
        patience_ms);
  }
  void TearDown() override {
    doorman_->Close();
    for (const int guest : guests_) close(guest);
    close(server_);
    EXPECT_EQ(uv_run(&loop_, UV_RUN_DEFAULT), 0);
    EXPECT_EQ(uv_loop_close(&loop_), 0);
    for (const int fd : fds_) close(fd);
  }

  int Connect() {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address_),
                      sizeof(address_)),
              0);
    fds_.push_back(fd);
    return fd;
  }
  void Say(int fd, const std::string& bytes) {
    ASSERT_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void RunUntil(const std::function<bool()>& condition) {
    AcceptAll();
    while (!condition()) uv_run(&loop_, UV_RUN_ONCE);
  }
  // Also turns the loop once, without waiting.
  size_t NumLetIn() {
    AcceptAll();
    uv_run(&loop_, UV_RUN_NOWAIT);
    return guests_.size();
  }
  int64_t NumTurnedAway() const { return Doorman::num_turned_away() - before_; }

  std::vector<int> guests_;  // their sockets

 private:
  void AcceptAll() {
    int fd = -1;
    while ((fd = accept4(server_, nullptr, nullptr, SOCK_NONBLOCK)) >= 0) {
      doorman_->OnConnection(fd);
    }
  }

  uv_loop_t loop_;
  const int server_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  sockaddr_in address_ = {};
  std::shared_ptr<Doorman> doorman_;
  std::vector<int> fds_;
  const int64_t before_ = Doorman::num_turned_away();
};

constexpr uint64_t kLong = 600'000;

TEST_F(DoormanTest, LetsInWhoSaysHelloAndKeepsNothingBack) {
  Listen(Callers::kPipes, kLong);
  const std::string hello = testing::RequestedHelloFrame(5);
  Say(Connect(), hello + "more");
  RunUntil([&] { return guests_.size() == 1; });
  const int fd = guests_[0];
  std::string bytes(1000, '\0');
  bytes.resize(recv(fd, bytes.data(), bytes.size(), 0));
  EXPECT_EQ(bytes, hello + "more");
  int enough = 0;
  socklen_t size = sizeof(enough);
  getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &enough, &size);
  EXPECT_EQ(enough, 1);
  EXPECT_EQ(NumTurnedAway(), 0);
}

TEST_F(DoormanTest, WaitsForTheLastByte) {
  Listen(Callers::kPipes, kLong);
  const std::string whole =
      testing::PipeHelloFrame("w0") + testing::BrochureFrame();
  const int fd = Connect();
  for (const char byte : whole) {
    EXPECT_EQ(NumLetIn(), 0u);
    Say(fd, std::string(1, byte));
  }
  RunUntil([&] { return guests_.size() == 1; });
  EXPECT_EQ(NumTurnedAway(), 0);
}

TEST_F(DoormanTest, TurnsAwayWhoSaysNothing) {
  Listen(Callers::kLanes, 20);
  Connect();
  Say(Connect(), testing::LaneHelloFrame(1).substr(0, 9));
  Say(Connect(), "abc");
  RunUntil([&] { return NumTurnedAway() == 3; });
  EXPECT_EQ(guests_.size(), 0u);
}

TEST_F(DoormanTest, TurnsAwayWhoSaysSomethingElseOrGoes) {
  Listen(Callers::kLanes, kLong);
  Say(Connect(), std::string(64, '\0'));
  Say(Connect(), testing::PipeHelloFrame("a pipe at a lane's door"));
  shutdown(Connect(), SHUT_WR);
  const int fd = Connect();
  Say(fd, testing::LaneHelloFrame(1).substr(0, 9));
  shutdown(fd, SHUT_WR);
  RunUntil([&] { return NumTurnedAway() == 4; });
  EXPECT_EQ(guests_.size(), 0u);
  // All was said before it went.
  const int hasty = Connect();
  Say(hasty, testing::LaneHelloFrame(1));
  shutdown(hasty, SHUT_WR);
  RunUntil([&] { return guests_.size() == 1; });
}

TEST_F(DoormanTest, WhoCameFirstHasToGoWhenTooManyWait) {
  Listen(Callers::kLanes, kLong);
  const int first = Connect();
  const int second = Connect();
  for (int64_t i = 2; i < Doorman::kMostGuests; ++i) {
    Connect();
    if (i % 8 == 0) NumLetIn();  // or the backlog is full
  }
  // It has said it by the time it would have to go.
  Say(first, testing::LaneHelloFrame(1));
  Connect();
  RunUntil([&] { return guests_.size() == 1; });
  Connect();
  RunUntil([&] { return NumTurnedAway() == 1; });
  char byte = 0;
  EXPECT_EQ(recv(second, &byte, 1, 0), 0);
}

// What is crowded elsewhere.
class Crowd : public DoormanTest {
 public:
  void TestBody() override {}
  void Come() {
    Listen(Callers::kLanes, kLong);
    for (int64_t i = 0; i < Doorman::kMostGuests; ++i) Connect();
    NumLetIn();
  }
  void Go() { TearDown(); }
};

TEST_F(DoormanTest, ACrowdAtOneDoorLeavesRoomAtAnother) {
  Crowd crowd;
  crowd.Come();
  Listen(Callers::kLanes, kLong);
  for (size_t i = 0; i < Doorman::kLastGuests; ++i) Connect();
  NumLetIn();
  EXPECT_EQ(NumTurnedAway(), 0);
  Connect();
  NumLetIn();
  EXPECT_EQ(NumTurnedAway(), 1);
  crowd.Go();
}

}  // namespace
}  // namespace reprise
