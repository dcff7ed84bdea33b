// The doorman alone, on a loop of the test's own.

#include "agent/transport/doorman.h"

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
    ASSERT_EQ(uv_tcp_init(&loop_, &server_), 0);
    sockaddr_in address = {};
    uv_ip4_addr("127.0.0.1", 0, &address);
    ASSERT_EQ(
        uv_tcp_bind(&server_, reinterpret_cast<const sockaddr*>(&address), 0),
        0);
    server_.data = this;
    doorman_ =
        std::make_shared<Doorman>(stream(), OnGuest, callers, patience_ms);
    // Not TensorPipe's, so the guard leaves it alone.
    ASSERT_EQ(uv_listen(stream(), 16,
                        [](uv_stream_t* server, int status) {
                          static_cast<DoormanTest*>(server->data)
                              ->doorman_->OnConnection(status);
                        }),
              0);
    int size = sizeof(address_);
    uv_tcp_getsockname(&server_, reinterpret_cast<sockaddr*>(&address_), &size);
  }
  void TearDown() override {
    doorman_->Close();
    for (const auto& guest : guests_) {
      uv_close(reinterpret_cast<uv_handle_t*>(guest.get()), nullptr);
    }
    uv_close(reinterpret_cast<uv_handle_t*>(&server_), nullptr);
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
    while (!condition()) uv_run(&loop_, UV_RUN_ONCE);
  }
  // Also turns the loop once, without waiting.
  size_t NumLetIn() {
    uv_run(&loop_, UV_RUN_NOWAIT);
    return guests_.size();
  }
  int64_t NumTurnedAway() const { return Doorman::num_turned_away() - before_; }

  std::vector<std::unique_ptr<uv_tcp_t>> guests_;

 private:
  uv_stream_t* stream() { return reinterpret_cast<uv_stream_t*>(&server_); }

  static void OnGuest(uv_stream_t* server, int status) {
    auto* const test = static_cast<DoormanTest*>(server->data);
    ASSERT_EQ(status, 0);
    auto guest = std::make_unique<uv_tcp_t>();
    uv_tcp_init(&test->loop_, guest.get());
    ASSERT_EQ(
        test->doorman_->Accept(reinterpret_cast<uv_stream_t*>(guest.get())), 0);
    test->guests_.push_back(std::move(guest));
  }

  uv_loop_t loop_;
  uv_tcp_t server_;
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
  int fd = -1;
  uv_fileno(reinterpret_cast<uv_handle_t*>(guests_[0].get()), &fd);
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
  for (size_t i = 2; i < Doorman::kMostGuests; ++i) {
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

}  // namespace
}  // namespace reprise
