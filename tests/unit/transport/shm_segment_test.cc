// The pieces of the transport shm: memory, rings, hellos and tokens.

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "agent/transport/shm/hello.h"
#include "agent/transport/shm/ring.h"
#include "agent/transport/shm/segment.h"
#include "agent/transport/shm/token_queue.h"
#include "gtest/gtest.h"
#include "tests/unit/transport/shm_peer.h"
#include "uv.h"

namespace reprise::shm {
namespace {

using ::reprise::testing::MemoryFile;

constexpr SizeLimits kAny = {1, size_t{1} << 30};

TEST(ShmSegmentTest, OursIsSealedSparseAndClosedOnExec) {
  Segment segment;
  ASSERT_EQ(MakeSegment(size_t{2} << 20, segment), 0);
  struct stat status;
  ASSERT_EQ(fstat(segment.file.get(), &status), 0);
  EXPECT_EQ(status.st_size, 2 << 20);
  EXPECT_EQ(status.st_blocks, 0);
  EXPECT_EQ(fcntl(segment.file.get(), F_GET_SEALS),
            F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  EXPECT_EQ(fcntl(segment.file.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_NE(ftruncate(segment.file.get(), 1), 0);
  // The mapping outlives the descriptor, and another one sees the same.
  Mapping second;
  ASSERT_EQ(MapPeerSegment(segment.file.get(), kAny, false, second), 0);
  segment.file.Close();
  segment.memory.data()[5] = 'x';
  EXPECT_EQ(second.data()[5], 'x');
}

// It could be cut off under us, and to touch it would be SIGBUS.
TEST(ShmSegmentTest, UnsealedMemoryIsTakenFromTheSameUserOnly) {
  const FileDescriptor stock = MemoryFile(4096, F_SEAL_SEAL);
  Mapping memory;
  EXPECT_EQ(MapPeerSegment(stock.get(), kAny, false, memory), UV_EPERM);
  EXPECT_EQ(MapPeerSegment(stock.get(), kAny, true, memory), 0);
  const FileDescriptor sealed = MemoryFile(4096, F_SEAL_SHRINK);
  EXPECT_EQ(MapPeerSegment(sealed.get(), kAny, false, memory), 0);
}

TEST(ShmSegmentTest, OnlyMemoryIsMapped) {
  Mapping memory;
  const FileDescriptor event(eventfd(0, EFD_CLOEXEC));
  EXPECT_EQ(MapPeerSegment(event.get(), kAny, true, memory), UV_EPROTO);
  const FileDescriptor device(open("/dev/zero", O_RDWR | O_CLOEXEC));
  EXPECT_EQ(MapPeerSegment(device.get(), kAny, true, memory), UV_EPROTO);
  EXPECT_EQ(MapPeerSegment(-1, kAny, true, memory), UV_EPROTO);
  // To touch it may be SIGBUS, too, when no huge page is left.
  const FileDescriptor huge(
      memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_ALLOW_SEALING));
  if (!huge.is_open()) return;
  static_cast<void>(!ftruncate(huge.get(), 2 << 20));
  fcntl(huge.get(), F_ADD_SEALS, F_SEAL_SHRINK);
  EXPECT_EQ(MapPeerSegment(huge.get(), kAny, true, memory), UV_EPROTO);
}

TEST(ShmSegmentTest, ALackOfDescriptorsOrOfRoomIsAnError) {
  Segment segment;
  EXPECT_NE(MakeSegment(size_t{1} << 62, segment), 0);
  rlimit usual;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &usual), 0);
  const rlimit none = {0, usual.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  EXPECT_EQ(MakeSegment(4096, segment), UV_EMFILE);
  EXPECT_FALSE(HasFreeDescriptors(1));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
  EXPECT_TRUE(HasFreeDescriptors(10));
}

class ShmRingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(ring_.Make(kMinRingBytes, files_), 0);
    ASSERT_EQ(mapped_.MapPeer(files_.header.get(), files_.data.get(), false),
              0);
  }

  Ring ring_;
  Ring mapped_;
  Ring::Files files_;
  RingReader reader_{ring_};
  RingWriter writer_{mapped_};
};

TEST_F(ShmRingTest, BytesGoAroundTheEnd) {
  std::string bytes(3000, '\0');
  for (int round = 0; round < 100; ++round) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<char>(i + round);
    }
    ASSERT_TRUE(writer_.Refresh());
    ASSERT_EQ(writer_.writable(), kMinRingBytes);
    writer_.Append(bytes.data(), bytes.size());
    ASSERT_TRUE(reader_.Refresh());
    EXPECT_EQ(reader_.readable(), 0u);  // not published
    writer_.Publish();
    ASSERT_TRUE(reader_.Refresh());
    ASSERT_EQ(reader_.readable(), bytes.size());
    std::string peeked(bytes.size(), '?');
    reader_.Peek(peeked.data(), peeked.size());
    EXPECT_EQ(peeked, bytes);
    std::string came;
    while (reader_.readable() > 0) {
      const std::string_view piece = reader_.Contiguous();
      came += piece;
      reader_.Consume(piece.size());
    }
    EXPECT_EQ(came, bytes);
    reader_.Publish();
    ASSERT_TRUE(writer_.Refresh());
    EXPECT_TRUE(writer_.is_read());
  }
}

TEST_F(ShmRingTest, AWriterMayFillAllOfIt) {
  const std::string bytes(kMinRingBytes, 'x');
  writer_.Append(bytes.data(), bytes.size());
  writer_.Publish();
  ASSERT_TRUE(writer_.Refresh());
  EXPECT_EQ(writer_.writable(), 0u);
  ASSERT_TRUE(reader_.Refresh());
  EXPECT_EQ(reader_.readable(), bytes.size());
}

TEST_F(ShmRingTest, MarkersGoForthAndNotTooFar) {
  const std::string bytes(100, 'x');
  writer_.Append(bytes.data(), bytes.size());
  writer_.Publish();
  ASSERT_TRUE(reader_.Refresh());
  for (const uint64_t head :
       {uint64_t{0}, uint64_t{99}, kMinRingBytes + 1, ~uint64_t{0}}) {
    mapped_.header().head = head;
    EXPECT_FALSE(reader_.Refresh()) << head;
    EXPECT_EQ(reader_.readable(), 100u);
  }
  reader_.Consume(50);
  reader_.Publish();
  ASSERT_TRUE(writer_.Refresh());
  for (const uint64_t tail :
       {uint64_t{0}, uint64_t{49}, uint64_t{101}, ~uint64_t{0}}) {
    ring_.header().tail = tail;
    EXPECT_FALSE(writer_.Refresh()) << tail;
    EXPECT_EQ(writer_.writable(), kMinRingBytes - 50);
  }
}

class ShmTokenTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(queue_.Make(kMinRingBytes, files_), 0);
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets_), 0);
    near_ = FileDescriptor(sockets_[0]);
    far_ = FileDescriptor(sockets_[1]);
    ASSERT_EQ(SendHello(near_.get(), {7, 8}, files_, files_), 0);
    PeerHello hello;
    ASSERT_EQ(ReceiveHello(far_.get(), hello), 0);
    EXPECT_EQ(hello.tokens.inbox, 7u);
    EXPECT_EQ(hello.tokens.outbox, 8u);
    EXPECT_EQ(fcntl(hello.queue.data.get(), F_GETFD), FD_CLOEXEC);
    ASSERT_EQ(peer_.Map(hello, false), 0);
    EXPECT_TRUE(peer_.is_ours());
    ASSERT_EQ(
        ring_.MapPeer(hello.queue.header.get(), hello.queue.data.get(), false),
        0);
  }
  std::vector<uint32_t> Take(size_t max = 1'000'000) {
    std::vector<uint32_t> tokens;
    EXPECT_TRUE(
        queue_.Take(max, [&](uint32_t token) { tokens.push_back(token); }));
    return tokens;
  }
  bool HasRung() {
    char byte;
    return recv(near_.get(), &byte, 1, MSG_DONTWAIT) == 1;
  }

  TokenQueue queue_;
  Ring::Files files_;
  Ring ring_;
  PeerQueue peer_;
  int sockets_[2];
  FileDescriptor near_;
  FileDescriptor far_;
};

TEST_F(ShmTokenTest, EventsArePostedAndRungForWhileTheOtherSleeps) {
  EXPECT_FALSE(queue_.HasTokens());
  peer_.Post(PeerQueue::kWritten, far_.get());
  EXPECT_TRUE(queue_.HasTokens());
  EXPECT_FALSE(HasRung());
  queue_.SetAsleep(true);
  peer_.Post(PeerQueue::kRead | PeerQueue::kWritten, far_.get());
  EXPECT_TRUE(HasRung());
  peer_.Post(PeerQueue::kRead, far_.get());
  EXPECT_FALSE(HasRung());  // it is awake by now
  EXPECT_EQ(Take(2), (std::vector<uint32_t>{7, 7}));
  EXPECT_EQ(Take(), (std::vector<uint32_t>{8, 8}));
  EXPECT_FALSE(queue_.HasTokens());
}

TEST_F(ShmTokenTest, WhatCannotBePostedIsOwed) {
  ring_.header().producer_flag = 1;
  peer_.Post(PeerQueue::kWritten, far_.get());
  EXPECT_TRUE(peer_.is_owing());
  EXPECT_FALSE(queue_.HasTokens());
  ring_.header().producer_flag = 0;
  const size_t room = kMinRingBytes / sizeof(uint32_t);
  for (size_t i = 0; i < room; ++i) peer_.Post(PeerQueue::kRead, far_.get());
  EXPECT_TRUE(peer_.is_owing());
  EXPECT_EQ(Take().size(), room);
  queue_.SetAsleep(true);
  peer_.Post(0, far_.get());
  EXPECT_FALSE(peer_.is_owing());
  EXPECT_TRUE(HasRung());
  EXPECT_EQ(Take(), (std::vector<uint32_t>{8}));
}

TEST_F(ShmTokenTest, AMarkerThatMakesNoSenseIsNoticed) {
  ring_.header().head = kMinRingBytes + 4;
  EXPECT_TRUE(queue_.HasTokens());
  EXPECT_FALSE(queue_.Take(10, [](uint32_t) {}));
  ring_.header().head = 3;  // less than a token
  EXPECT_FALSE(queue_.HasTokens());
  // And who posts to such a queue stays within it.
  for (const uint64_t head : {~uint64_t{0}, uint64_t{5}, uint64_t{4095}}) {
    ring_.header().head = head;
    ring_.header().tail = head;
    peer_.Post(PeerQueue::kRead, far_.get());
    EXPECT_FALSE(peer_.is_owing());
  }
}

TEST(ShmHelloTest, WaitsWhereItIsForDescriptors) {
  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  const FileDescriptor near(sockets[0]);
  FileDescriptor far(sockets[1]);
  PeerHello hello;
  EXPECT_EQ(ReceiveHello(near.get(), hello), UV_EAGAIN);
  Ring ring;
  Ring::Files files;
  ASSERT_EQ(ring.Make(kMinRingBytes, files), 0);
  ASSERT_EQ(SendHello(far.get(), {1, 2}, files, files), 0);
  rlimit usual;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &usual), 0);
  const rlimit none = {0, usual.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  EXPECT_EQ(ReceiveHello(near.get(), hello), UV_EMFILE);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
  EXPECT_EQ(ReceiveHello(near.get(), hello), 0);
  far.Close();
  EXPECT_EQ(ReceiveHello(near.get(), hello), UV_EOF);
}

}  // namespace
}  // namespace reprise::shm
