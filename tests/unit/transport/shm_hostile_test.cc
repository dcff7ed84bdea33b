// Peers of the transport shm that do what they should not: in their hello, and
// in the memory that they share with us. Each costs its own connection.

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "agent/transport/shm/context.h"
#include "agent/transport/shm/handshake_gate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensorpipe/transport/connection.h"
#include "tensorpipe/transport/listener.h"
#include "tests/unit/transport/shm_peer.h"

namespace reprise {
namespace {

using shm::FileDescriptor;
using tensorpipe::Error;
using tensorpipe::transport::Connection;
using ::testing::HasSubstr;
using testing::MemoryFile;
using testing::ShmPeer;

constexpr unsigned kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// Echoes frames of any length.
class EchoServer {
 public:
  EchoServer() { Accept(); }
  ~EchoServer() { context_->join(); }

  const std::string& address() const { return address_; }
  // A connection that has met and been echoed to.
  std::unique_ptr<ShmPeer> Meet() {
    auto peer = std::make_unique<ShmPeer>(address_);
    EXPECT_TRUE(peer->Meet());
    peer->WriteFrame("hello");
    EXPECT_EQ(peer->ReadFrame(), "hello");
    return peer;
  }

 private:
  void Accept() {
    listener_->accept(
        [this](const Error& error, std::shared_ptr<Connection> connection) {
          if (error) return;
          Echo(connection);
          connections_.push_back(std::move(connection));
          Accept();
        });
  }
  static void Echo(const std::shared_ptr<Connection>& connection) {
    connection->read([weak = std::weak_ptr<Connection>(connection)](
                         const Error& error, const void* bytes, size_t size) {
      const auto connection = weak.lock();
      if (error || connection == nullptr) return;
      auto copy =
          std::make_shared<std::string>(static_cast<const char*>(bytes), size);
      connection->write(copy->data(), size, [copy](const Error&) {});
      Echo(connection);
    });
  }

  std::vector<std::shared_ptr<Connection>> connections_;  // the loop's thread's
  const std::shared_ptr<tensorpipe::transport::Context> context_ =
      MakeShmContext();
  const std::shared_ptr<tensorpipe::transport::Listener> listener_ =
      context_->listen("");
  const std::string address_ = listener_->addr();
};

class ShmHostileTest : public ::testing::Test {
 protected:
  void TearDown() override { ExpectUnharmed(); }

  // By the book.
  void ExpectUnharmed() {
    ShmPeer peer(address_);
    ASSERT_TRUE(peer.Meet());
    for (const size_t size : {0, 5, 50'000}) {
      const std::string body(size, 'x');
      peer.WriteFrame(body);
      EXPECT_TRUE(peer.ReadFrame() == body) << size;
    }
  }
  std::unique_ptr<ShmPeer> Meet() { return server_.Meet(); }
  static void ExpectDropped(ShmPeer& peer) { EXPECT_TRUE(peer.IsClosed()); }

  EchoServer server_;
  const std::string& address_ = server_.address();
};

TEST_F(ShmHostileTest, WhatIsNoHelloIsDropped) {
  const int64_t before = shm::HandshakeGate::num_dropped();
  const std::vector<std::string> sayings = {"x",
                                            "1234567",
                                            "12345678",
                                            "GET / HTTP/1.1\r\n\r\n",
                                            std::string(64, '\0'),
                                            std::string(100'000, '\xff')};
  for (const std::string& bytes : sayings) {
    ShmPeer peer(address_);
    peer.Say(bytes);
    ExpectDropped(peer);
  }
  const FileDescriptor file = MemoryFile(4096, kSeals);
  const std::vector<int> files(20, file.get());
  for (const size_t count : {1, 3, 5, 20}) {
    ShmPeer peer(address_);
    peer.SayWith("12345678", files.data(), count);
    ExpectDropped(peer);
  }
  ShmPeer in_two_parts(address_);
  in_two_parts.SayWith("1234", files.data(), 4);
  in_two_parts.Say("5678");
  ExpectDropped(in_two_parts);
  EXPECT_EQ(shm::HandshakeGate::num_dropped() - before,
            static_cast<int64_t>(sayings.size()) + 5);
}

TEST_F(ShmHostileTest, WhoGoesAwayIsDropped) {
  const int64_t before = shm::HandshakeGate::num_dropped();
  for (int i = 0; i < 50; ++i) ShmPeer peer(address_);
  for (int i = 0; i < 50; ++i) {
    ShmPeer peer(address_);
    peer.MakeRings();
    peer.SayHello();
  }
  ExpectUnharmed();
  // The others said hello, so there was no more to wait for.
  EXPECT_EQ(shm::HandshakeGate::num_dropped() - before, 50);
}

TEST_F(ShmHostileTest, DescriptorsOfOtherKindsAreRefused) {
  std::array<int, 2> pipe_ends;
  ASSERT_EQ(pipe2(pipe_ends.data(), O_CLOEXEC), 0);
  const FileDescriptor pipe_reader(pipe_ends[0]);
  const FileDescriptor pipe_writer(pipe_ends[1]);
  const FileDescriptor event(eventfd(0, EFD_CLOEXEC));
  const FileDescriptor device(open("/dev/zero", O_RDWR | O_CLOEXEC));
  const FileDescriptor folder(open("/proc/self", O_RDONLY | O_CLOEXEC));
  const FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const FileDescriptor header = MemoryFile(40, kSeals);
  const FileDescriptor data = MemoryFile(1 << 16, kSeals);
  for (const int wrong : {pipe_reader.get(), pipe_writer.get(), event.get(),
                          device.get(), folder.get(), socket.get()}) {
    for (int place = 0; place < 4; ++place) {
      std::array<int, 4> files = {header.get(), data.get(), header.get(),
                                  data.get()};
      files[place] = wrong;
      ShmPeer peer(address_);
      peer.SayWith("12345678", files.data(), files.size());
      ExpectDropped(peer);
    }
  }
}

TEST_F(ShmHostileTest, FilesOfOtherSizesAreRefused) {
  const auto expect_dropped =
      [this](const std::function<void(ShmPeer&)>& spoil) {
        ShmPeer peer(address_);
        peer.MakeRings();
        spoil(peer);
        peer.SayHello();
        ExpectDropped(peer);
      };
  for (const size_t size : {0, 39, 41, 4096}) {
    expect_dropped([&](ShmPeer& peer) {
      peer.inbox_files().header = MemoryFile(size, kSeals);
    });
    expect_dropped([&](ShmPeer& peer) {
      peer.queue_files().header = MemoryFile(size, kSeals);
    });
  }
  for (const size_t size : {size_t{0}, size_t{2048}, (size_t{64} << 10) - 1,
                            size_t{3} << 20, size_t{1} << 40}) {
    expect_dropped([&](ShmPeer& peer) {
      peer.inbox().header().size = size;
      peer.inbox_files().data = MemoryFile(size, kSeals);
    });
  }
  expect_dropped([&](ShmPeer& peer) { peer.inbox().header().size = 1 << 20; });
  expect_dropped([&](ShmPeer& peer) { peer.queue().header().size = 0; });
  // Nobody may write to it, so it cannot be mapped.
  expect_dropped([&](ShmPeer& peer) {
    peer.inbox_files().data = MemoryFile(1 << 16, kSeals | F_SEAL_WRITE);
  });
}

TEST_F(ShmHostileTest, MarkersThatMakeNoSenseFailTheConnection) {
  for (const uint64_t head :
       {uint64_t{1} << 40, ~uint64_t{0}, uint64_t{0}, uint64_t{8}}) {
    const auto peer = Meet();
    peer->Publish(head);  // too far, or back
    ExpectDropped(*peer);
  }
  for (const uint64_t tail : {uint64_t{1} << 40, ~uint64_t{0}, uint64_t{10}}) {
    const auto peer = Meet();
    peer->inbox().header().tail = tail;
    peer->WriteFrame("is answered, or would be");
    ExpectDropped(*peer);
  }
}

TEST_F(ShmHostileTest, AQueueThatMakesNoSenseFailsTheConnection) {
  const auto peer = Meet();
  peer->peer_queue().header().head = uint64_t{1} << 50;
  peer->Say(std::string(1, '\0'));
  ExpectDropped(*peer);
}

TEST_F(ShmHostileTest, WhatIsWrittenToOurOwnFieldsChangesNothing) {
  const auto peer = Meet();
  shm::RingHeader& inbox = peer->outbox().header();
  shm::RingHeader& queue = peer->peer_queue().header();
  for (shm::RingHeader* const header : {&inbox, &queue}) {
    header->size = ~uint64_t{0};
    header->mask = ~uint64_t{0};
    header->consumer_flag = 1;
    header->reprise = 0;
    header->tail = ~uint64_t{0};
  }
  inbox.producer_flag = 1;
  peer->inbox().header().mask = ~uint64_t{0};
  peer->inbox().header().size = 0;
  peer->queue().header().mask = ~uint64_t{0};
  peer->WriteFrame("still");
  EXPECT_EQ(peer->ReadFrame(), "still");
}

TEST_F(ShmHostileTest, TokensOfNobodyAreIgnored) {
  const auto peer = Meet();
  for (const uint32_t token : {0u, 2u, 77u, 1u << 20, ~0u}) {
    for (int i = 0; i < 1000; ++i) peer->Post(token);
  }
  peer->WriteFrame("there");
  EXPECT_EQ(peer->ReadFrame(), "there");
}

TEST_F(ShmHostileTest, OurMemoryCannotBeCutOff) {
  const auto peer = Meet();
  const shm::PeerHello& hello = peer->hello();
  for (const int fd : {hello.inbox.header.get(), hello.inbox.data.get(),
                       hello.queue.header.get(), hello.queue.data.get()}) {
    EXPECT_NE(ftruncate(fd, 0), 0);
    EXPECT_EQ(errno, EPERM);
    EXPECT_NE(ftruncate(fd, 1 << 30), 0);
  }
  // Holes can be made, and are zeros.
  peer->outbox().header().head = 4096 + 9;
  EXPECT_EQ(fallocate(hello.inbox.data.get(),
                      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 16),
            0);
  peer->Post(hello.tokens.inbox);
  EXPECT_EQ(peer->ReadFrame(), "");
}

TEST_F(ShmHostileTest, AByteFromAStockPeerEndsTheConnection) {
  ShmPeer peer(address_);
  peer.MakeRings();
  peer.queue().header().reprise = 0;
  peer.SayHello();
  ASSERT_TRUE(peer.HearHello());
  // Its ring of objects has the size that TensorPipe counts on.
  EXPECT_EQ(peer.outbox().size(), uint64_t{2} << 20);
  peer.Say("x");
  ExpectDropped(peer);
}

TEST_F(ShmHostileTest, AQueueThatIsLockedOrFullStopsNobodyElse) {
  const auto locked = Meet();
  locked->queue().header().producer_flag = 1;
  const auto full = Meet();
  full->queue().header().head = full->queue().header().tail + (64 << 10);
  const uint64_t posted = full->queue().header().head;
  for (const auto& peer : {locked.get(), full.get()}) {
    peer->WriteFrame("owed");
    EXPECT_EQ(peer->ReadFrame(), "owed");
  }
  ExpectUnharmed();
  EXPECT_EQ(full->queue().header().head, posted);
  // What is owed is posted as soon as it can be.
  const uint64_t head = locked->queue().header().head;
  locked->queue().header().producer_flag = 0;
  full->queue().header().tail = posted;
  while (locked->queue().header().head == head ||
         full->queue().header().head == posted) {
    sched_yield();
  }
}

TEST_F(ShmHostileTest, AHugeFrameTakesNoMemoryAndFails) {
  const auto peer = Meet();
  const uint32_t length = 0xfffffff0;
  const uint64_t head = peer->outbox().header().head;
  for (size_t i = 0; i < sizeof(length); ++i) {
    peer->outbox().data()[(head + i) & peer->outbox().mask()] =
        reinterpret_cast<const char*>(&length)[i];
  }
  peer->Publish(head + sizeof(length));
  ExpectDropped(*peer);
}

// Anything anywhere, while frames come and go. A server for each round: those
// of one process share a queue, and this one may have been locked for good.
TEST_F(ShmHostileTest, NoiseInSharedMemoryEndsNobody) {
  std::mt19937_64 random(41);
  for (int round = 0; round < 200; ++round) {
    EchoServer server;
    const auto peer = server.Meet();
    const std::array<shm::Ring*, 4> rings = {
        &peer->inbox(), &peer->queue(), &peer->outbox(), &peer->peer_queue()};
    for (int i = 0; i < 40; ++i) {
      shm::Ring& ring = *rings[random() % rings.size()];
      auto* const header = reinterpret_cast<char*>(&ring.header());
      const uint64_t value = random() % 2 == 0 ? random() : random() % 300'000;
      switch (random() % 4) {
        case 0:
          ring.header().head = value;
          break;
        case 1:
          ring.header().tail = value;
          break;
        case 2:
          // Whole words, as whatever fields there are.
          reinterpret_cast<std::atomic<uint64_t>*>(header)[random() % 5] =
              value;
          break;
        default:
          for (int j = 0; j < 64; ++j) {
            ring.data()[random() & ring.mask()] = static_cast<char>(value >> j);
          }
      }
      peer->Say(std::string(1, '\0'));
    }
  }
}

TEST_F(ShmHostileTest, ThoseWhoSayNothingDoNotStandInTheWay) {
  std::vector<std::unique_ptr<ShmPeer>> silent;
  const int64_t before = shm::HandshakeGate::num_dropped();
  for (int64_t i = 0; i <= shm::HandshakeGate::kMaxPending + 10; ++i) {
    silent.push_back(std::make_unique<ShmPeer>(address_));
  }
  ExpectDropped(*silent.front());
  ExpectUnharmed();
  EXPECT_GE(shm::HandshakeGate::num_dropped() - before, 10);
}

}  // namespace
}  // namespace reprise
