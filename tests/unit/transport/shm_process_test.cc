// Peers of the transport shm in processes of their own, which die.

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/transport/peer_liveness.h"
#include "agent/transport/shm/context.h"
#include "agent/transport/shm/peer_identity.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensorpipe/tensorpipe.h"
#include "tensorpipe/transport/connection.h"
#include "tensorpipe/transport/listener.h"
#include "tests/unit/transport/connections.h"
#include "tests/unit/transport/shm_peer.h"

namespace reprise {
namespace {

using tensorpipe::Error;
using tensorpipe::transport::Connection;
using ::testing::HasSubstr;
using testing::ShmPeer;

// A process that is made before there are threads, and gets an address later.
class Child {
 public:
  explicit Child(const std::function<void(const std::string&)>& body) {
    std::array<int, 2> ends;
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      close(ends[1]);
      std::string address(200, '\0');
      const ssize_t size = read(ends[0], address.data(), address.size());
      if (size <= 0) _exit(1);
      address.resize(static_cast<size_t>(size));
      body(address);
      _exit(0);
    }
    close(ends[0]);
    to_child_ = shm::FileDescriptor(ends[1]);
  }
  ~Child() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void Go(const std::string& address) {
    EXPECT_EQ(write(to_child_.get(), address.data(), address.size()),
              static_cast<ssize_t>(address.size()));
  }
  // Waits until it has ended; returns its status.
  int Wait() {
    int status = -1;
    // It stays for the destructor.
    siginfo_t info = {};
    waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT);
    status = info.si_status;
    return status;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  shm::FileDescriptor to_child_;
};

class Server {
 public:
  Server() { address_ = listener_->addr(); }
  ~Server() { context_->join(); }

  const std::string& address() const { return address_; }
  std::shared_ptr<Connection> Accept() {
    const testing::Accepted accepted = testing::Accept(*listener_).get();
    EXPECT_EQ(accepted.error, "");
    return accepted.connection;
  }

 private:
  const std::shared_ptr<tensorpipe::transport::Context> context_ =
      MakeShmContext();
  const std::shared_ptr<tensorpipe::transport::Listener> listener_ =
      context_->listen("");
  std::string address_;
};

// A frame, or what is wrong.
std::string Read(Connection& connection) {
  std::promise<std::string> read;
  connection.read([&](const Error& error, const void* bytes, size_t size) {
    read.set_value(error ? error.what()
                         : std::string(static_cast<const char*>(bytes), size));
  });
  return read.get_future().get();
}

std::string Write(Connection& connection, const std::string& frame) {
  return testing::Write(connection, frame).get();
}

TEST(ShmProcessTest, WhatADeadProcessWroteIsRead) {
  Child child([](const std::string& address) {
    ShmPeer peer(address);
    peer.Meet();
    for (int i = 0; i < 100; ++i) peer.WriteFrame(std::to_string(i));
    kill(getpid(), SIGKILL);
  });
  Server server;
  child.Go(server.address());
  const auto connection = server.Accept();
  EXPECT_EQ(child.Wait(), SIGKILL);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Read(*connection), std::to_string(i));
  }
  EXPECT_THAT(Read(*connection), HasSubstr("EOF"));
}

TEST(ShmProcessTest, ADeadProcessWhoseChildHoldsItsSocketIsMissed) {
  std::array<int, 2> ends;
  ASSERT_EQ(pipe(ends.data()), 0);
  Child child([&ends](const std::string& address) {
    ShmPeer peer(address);
    peer.Meet();
    peer.WriteFrame("alive");
    if (fork() != 0) _exit(0);
    close(ends[1]);
    char byte;
    static_cast<void>(!read(ends[0], &byte, 1));  // until the test is over
    _exit(0);
  });
  close(ends[0]);
  const shm::FileDescriptor end_of_test(ends[1]);
  Server server;
  child.Go(server.address());
  const auto connection = server.Accept();
  EXPECT_EQ(Read(*connection), "alive");
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_THAT(Read(*connection), HasSubstr("EOF"));
}

TEST(ShmProcessTest, TheEndOfAProcessIsSeenAtOnceWhenAsked) {
  std::array<int, 2> ends;
  ASSERT_EQ(pipe(ends.data()), 0);
  Child child([&ends](const std::string& address) {
    ShmPeer peer(address);
    peer.Meet();
    peer.WriteFrame("alive");
    peer.ReadFrame();
    if (fork() != 0) _exit(0);
    close(ends[1]);
    char byte;
    static_cast<void>(!read(ends[0], &byte, 1));
    _exit(0);
  });
  close(ends[0]);
  const shm::FileDescriptor end_of_test(ends[1]);
  Server server;
  child.Go(server.address());
  const auto connection = server.Accept();
  EXPECT_EQ(Read(*connection), "alive");
  auto* const peer = dynamic_cast<PeerLiveness*>(connection.get());
  EXPECT_EQ(peer->PeerPid(), child.pid());
  EXPECT_TRUE(peer->PeerIsOpen());
  EXPECT_FALSE(shm::HasProcessEnded(child.pid()));
  EXPECT_EQ(Write(*connection, "end"), "");
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_FALSE(peer->PeerIsOpen());
  // As older kernels tell it.
  EXPECT_TRUE(shm::HasProcessEnded(child.pid()));
}

TEST(ShmProcessTest, WhoDiesWithALockOfOursLocksOutNobody) {
  Child child([](const std::string& address) {
    ShmPeer peer(address);
    peer.Meet();
    peer.WriteFrame("locks");
    peer.ReadFrame();
    peer.peer_queue().header().producer_flag = 1;
    kill(getpid(), SIGKILL);
  });
  Child other([](const std::string& address) {
    ShmPeer peer(address);
    peer.Meet();
    peer.WriteFrame("other");
    // Alive until it is answered.
    if (peer.ReadFrame() != "answer") _exit(1);
    peer.WriteFrame("well");
    peer.ReadFrame();
  });
  Server server;
  other.Go(server.address());
  const auto with_other = server.Accept();
  EXPECT_EQ(Read(*with_other), "other");
  child.Go(server.address());
  const auto connection = server.Accept();
  EXPECT_EQ(Read(*connection), "locks");
  EXPECT_EQ(Write(*connection, "now"), "");
  EXPECT_EQ(child.Wait(), SIGKILL);
  EXPECT_THAT(Read(*connection), HasSubstr("EOF"));
  EXPECT_EQ(Write(*with_other, "answer"), "");
  EXPECT_EQ(Read(*with_other), "well");
}

// One of TensorPipe's own processes is ended by SIGPIPE if we dial and go
// before it has said its hello; and by SIGSEGV at much else.
TEST(ShmProcessTest, AStockListenerSurvivesWhoDialsAndGoes) {
  std::array<int, 2> ends;
  ASSERT_EQ(pipe(ends.data()), 0);
  Child child([&ends](const std::string& end_of_test) {
    signal(SIGPIPE, SIG_DFL);
    const auto context = tensorpipe::transport::shm::create();
    const auto listener = context->listen("");
    std::vector<std::shared_ptr<Connection>> connections;
    std::function<void()> accept = [&] {
      listener->accept(
          [&](const Error& error, std::shared_ptr<Connection> connection) {
            if (error) _exit(3);
            connections.push_back(std::move(connection));
            accept();
          });
    };
    accept();
    const std::string address = listener->addr();
    static_cast<void>(!write(ends[1], address.data(), address.size()));
    for (std::string line = end_of_test; !line.empty();) pause();
  });
  child.Go("begin");
  std::string address(100, '\0');
  const ssize_t size = read(ends[0], address.data(), address.size());
  ASSERT_GT(size, 0);
  address.resize(static_cast<size_t>(size));
  for (int round = 0; round < 20; ++round) {
    const auto context = MakeShmContext();
    for (int i = 0; i < 5; ++i) {
      const auto connection = context->connect(address);
      if (i % 2 == 0) connection->close();
    }
    if (round % 2 == 0) context->join();
  }
  const auto context = MakeShmContext();
  const auto connection = context->connect(address);
  EXPECT_EQ(Write(*connection, "still there"), "");
  EXPECT_EQ(waitpid(child.pid(), nullptr, WNOHANG), 0);
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace reprise
