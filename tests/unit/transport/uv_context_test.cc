// The transport uv by itself, without TensorPipe's core on top.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>  // nop needs it
#include <chrono>
#include <deque>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/transport/checked_transport.h"
#include "agent/transport/uv/context.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensorpipe/channel/mpt/nop_types.h"
#include "tensorpipe/transport/connection.h"
#include "tensorpipe/transport/listener.h"
#include "tests/unit/transport/connections.h"
#include "tests/unit/transport/greetings.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;
using Hello = tensorpipe::NopHolder<tensorpipe::channel::mpt::Packet>;

class UvContextTest : public ::testing::Test {
 protected:
  std::shared_ptr<tensorpipe::transport::Context> Make() {
    return MakeChecked("uv", MakeUvContext(Callers::kLanes),
                       std::make_shared<PeerCheck>(), CheckedUse::kChannel);
  }
  void SetUp() override { listener_ = server_->listen("127.0.0.1"); }

  // A connection's two ends, once it was said who calls.
  void Connect() {
    ours_ = client_->connect(listener_->addr());
    ours_->write(hello_, [](const Error& error) { EXPECT_FALSE(error); });
    Accept();
  }
  // From a socket that may send what it likes.
  int ConnectBySocket() {
    const std::string address = listener_->addr();
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(
        std::stoi(address.substr(address.rfind(':') + 1))));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)),
              0);
    Say(fd, LaneHelloFrame(1));
    Accept();
    return fd;
  }
  void Say(int fd, const std::string& bytes) {
    EXPECT_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void Accept() {
    const Accepted accepted = testing::Accept(*listener_).get();
    EXPECT_EQ(accepted.error, "");
    theirs_ = accepted.connection;
    Hello hello;
    EXPECT_EQ(Read(*theirs_, hello).get(), "");
    EXPECT_TRUE(hello.getObject().is<tensorpipe::channel::mpt::ClientHello>());
  }

  std::shared_ptr<tensorpipe::transport::Context> server_ = Make();
  std::shared_ptr<tensorpipe::transport::Context> client_ = Make();
  std::shared_ptr<Listener> listener_;
  std::shared_ptr<Connection> ours_;
  std::shared_ptr<Connection> theirs_;
  Hello hello_ = [] {
    Hello hello;
    hello.getObject() = tensorpipe::channel::mpt::ClientHello{1};
    return hello;
  }();
};

TEST_F(UvContextTest, FramesComeInTheirOrderBothWays) {
  Connect();
  const std::vector<std::string> frames = {"a", "", std::string(3'000'000, 'b'),
                                           "c", std::string(70'000, 'd')};
  for (const auto& [from, to] :
       {std::pair(ours_, theirs_), std::pair(theirs_, ours_)}) {
    std::deque<std::future<std::string>> written;
    std::deque<std::future<Outcome>> read;
    std::deque<std::string> places;
    for (const std::string& frame : frames) {
      written.push_back(Write(*from, frame));
    }
    for (const std::string& frame : frames) {
      read.push_back(Read(*to, places.emplace_back(frame.size(), '?')));
    }
    for (size_t i = 0; i < frames.size(); ++i) {
      const Outcome outcome = read[i].get();
      EXPECT_EQ(outcome.error, "");
      EXPECT_TRUE(outcome.bytes == frames[i]) << i;
      EXPECT_EQ(written[i].get(), "");
    }
  }
}

TEST_F(UvContextTest, WhatWasWrittenBeforeTheCloseArrives) {
  Connect();
  std::string place(4, '?');
  std::future<Outcome> read = Read(*theirs_, place);
  const std::string last = "last";
  Write(*ours_, last).wait();  // nothing else is on its way
  EXPECT_EQ(read.get().bytes, "last");
  read = Read(*theirs_, place);
  std::future<std::string> written = Write(*ours_, last);
  ours_->close();
  EXPECT_EQ(read.get().bytes, "last");
  written.wait();
  EXPECT_THAT(Read(*theirs_, place).get().error, HasSubstr("EOF"));
}

TEST_F(UvContextTest, NothingIsTakenThatNobodyReads) {
  const std::string much(size_t{64} << 20, 'x');
  Connect();
  const auto idle = std::pair(std::exchange(ours_, nullptr), theirs_);
  std::future<std::string> unread = Write(*idle.first, much);
  Connect();
  for (int i = 0; i < 4; ++i) {
    std::string place(much.size(), '?');
    std::future<Outcome> read = Read(*theirs_, place);
    EXPECT_EQ(Write(*ours_, much).get(), "");
    EXPECT_TRUE(read.get().bytes == much);
  }
  EXPECT_NE(unread.wait_for(std::chrono::seconds(0)),
            std::future_status::ready);
  idle.first->close();
  EXPECT_THAT(unread.get(), HasSubstr("closed"));
}

TEST_F(UvContextTest, ACloseEndsWhatWaits) {
  Connect();
  std::string place(4, '?');
  std::future<Outcome> read = Read(*ours_, place);
  ours_->close();
  EXPECT_THAT(read.get().error, HasSubstr("closed"));
  EXPECT_THAT(Read(*ours_, place).get().error, HasSubstr("closed"));
  EXPECT_THAT(Write(*ours_, place).get(), HasSubstr("closed"));
  // And what the context's end does, of connections and listeners.
  Connect();
  read = Read(*theirs_, place);
  std::future<Accepted> accepted = testing::Accept(*listener_);
  server_->join();
  EXPECT_THAT(read.get().error, HasSubstr("closed"));
  EXPECT_THAT(accepted.get().error, HasSubstr("closed"));
  const auto late = server_->connect("127.0.0.1:1");
  EXPECT_THAT(Read(*late, place).get().error, HasSubstr("closed"));
}

TEST_F(UvContextTest, AFrameOfAnotherLengthFailsTheConnection) {
  for (const size_t size : {size_t{3}, size_t{5}, size_t{0}}) {
    const int fd = ConnectBySocket();
    std::string place(4, '?');
    std::future<Outcome> read = Read(*theirs_, place);
    Say(fd, Frame(std::string(size, 'x')));
    EXPECT_THAT(read.get().error, HasSubstr("EPROTO"));
    EXPECT_EQ(place, "????");
    close(fd);
  }
  const int fd = ConnectBySocket();
  Say(fd, std::string(8, '\x7f'));  // of a huge length
  Hello hello;
  EXPECT_THAT(Read(*theirs_, hello).get(), HasSubstr("EPROTO"));
  close(fd);
}

TEST_F(UvContextTest, APortThatIsTakenIsAnErrorOfTheListener) {
  const std::shared_ptr<Listener> second = client_->listen(listener_->addr());
  EXPECT_EQ(second->addr(), "");
  EXPECT_THAT(testing::Accept(*second).get().error, HasSubstr("EADDRINUSE"));
  Connect();  // the first one does not mind
}

TEST_F(UvContextTest, AConnectThatFailsSaysWhy) {
  const std::string address = listener_->addr();
  listener_->close();
  server_->join();
  std::string place(4, '?');
  const auto refused = client_->connect(address);
  std::future<std::string> written = Write(*refused, place);
  EXPECT_THAT(Read(*refused, place).get().error, HasSubstr("ECONNREFUSED"));
  EXPECT_THAT(written.get(), HasSubstr("ECONNREFUSED"));
  // TCP has no broadcasts.
  const auto nowhere = client_->connect("255.255.255.255:9");
  written = Write(*nowhere, place);
  EXPECT_THAT(Read(*nowhere, place).get().error, HasSubstr("ENETUNREACH"));
  EXPECT_THAT(written.get(), HasSubstr("ENETUNREACH"));
}

TEST_F(UvContextTest, ALackOfFileDescriptorsIsAnError) {
  const std::string address = listener_->addr();
  rlimit usual;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &usual), 0);
  const rlimit none = {0, usual.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  std::string place(4, '?');
  const auto connection = client_->connect(address);
  std::future<std::string> written = Write(*connection, place);
  EXPECT_THAT(Read(*connection, place).get().error, HasSubstr("EMFILE"));
  EXPECT_THAT(written.get(), HasSubstr("EMFILE"));
  const std::shared_ptr<Listener> second = client_->listen("127.0.0.1");
  EXPECT_EQ(second->addr(), "");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
  Connect();
}

TEST_F(UvContextTest, WhatIsNoAddressIsThrown) {
  for (const char* address : {"", "lane", "127.0.0.1:x", "127.0.0.1:99999",
                              "[::1", "127.0.0.1:99999999999999999999"}) {
    EXPECT_ANY_THROW(client_->connect(address)) << address;
    EXPECT_ANY_THROW(client_->listen(address)) << address;
  }
}

}  // namespace
}  // namespace reprise::testing
