#include "tests/unit/transport/shm_peer.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "uv.h"

namespace reprise::testing {
namespace {

constexpr int kPatienceMs = 60'000;

void CopyIn(shm::Ring& ring, uint64_t at, const void* bytes, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    ring.data()[(at + i) & ring.mask()] = static_cast<const char*>(bytes)[i];
  }
}

void CopyOut(shm::Ring& ring, uint64_t at, void* bytes, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    static_cast<char*>(bytes)[i] = ring.data()[(at + i) & ring.mask()];
  }
}

bool IsGone(int socket) {
  pollfd poll_fd = {socket, POLLRDHUP, 0};
  return poll(&poll_fd, 1, 0) == 1;
}

}  // namespace

shm::FileDescriptor MemoryFile(size_t size, unsigned seals) {
  shm::FileDescriptor file(
      memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(ftruncate(file.get(), static_cast<off_t>(size)), 0);
  EXPECT_EQ(fcntl(file.get(), F_ADD_SEALS, seals), 0);
  return file;
}

ShmPeer::ShmPeer(const std::string& address)
    : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path + 1, address.data(), address.size());
  EXPECT_EQ(connect(socket_.get(), reinterpret_cast<const sockaddr*>(&name),
                    static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 +
                                           address.size())),
            0);
}

void ShmPeer::MakeRings(size_t inbox_bytes, size_t queue_bytes) {
  ASSERT_EQ(inbox_.Make(inbox_bytes, inbox_files_), 0);
  ASSERT_EQ(queue_.Make(queue_bytes, queue_files_), 0);
}

void ShmPeer::SayHello() {
  // The other end may have gone.
  shm::SendHello(socket_.get(), {0, 1}, queue_files_, inbox_files_);
}

bool ShmPeer::HearHello() {
  pollfd poll_fd = {socket_.get(), POLLIN, 0};
  poll(&poll_fd, 1, kPatienceMs);
  return shm::ReceiveHello(socket_.get(), hello_) == 0 &&
         peer_queue_.MapPeer(hello_.queue.header.get(), hello_.queue.data.get(),
                             true) == 0 &&
         outbox_.MapPeer(hello_.inbox.header.get(), hello_.inbox.data.get(),
                         true) == 0;
}

bool ShmPeer::Meet() {
  MakeRings();
  SayHello();
  return HearHello();
}

bool ShmPeer::SayWith(const std::string& bytes, const int* fds, size_t count) {
  iovec part = {const_cast<char*>(bytes.data()), bytes.size()};
  std::vector<char> control(CMSG_SPACE(count * sizeof(int)));
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (count > 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    std::memcpy(CMSG_DATA(header), fds, count * sizeof(int));
  }
  return sendmsg(socket_.get(), &message, MSG_NOSIGNAL) ==
         static_cast<ssize_t>(bytes.size());
}

bool ShmPeer::Say(const std::string& bytes) {
  return SayWith(bytes, nullptr, 0);
}

bool ShmPeer::IsClosed() {
  pollfd poll_fd = {socket_.get(), POLLRDHUP, 0};
  return poll(&poll_fd, 1, kPatienceMs) == 1;
}

void ShmPeer::Publish(uint64_t head) {
  outbox_.header().head = head;
  Post(hello_.tokens.inbox);
}

void ShmPeer::Post(uint32_t token) {
  shm::RingHeader& header = peer_queue_.header();
  while (header.producer_flag.exchange(1) != 0) sched_yield();
  const uint64_t head = header.head;
  CopyIn(peer_queue_, head, &token, sizeof(token));
  header.head = head + sizeof(token);
  header.producer_flag = 0;
  if (header.is_asleep.exchange(0) != 0) Say(std::string(1, '\0'));
}

void ShmPeer::WriteFrame(const std::string& body) {
  const auto length = static_cast<uint32_t>(body.size());
  CopyIn(outbox_, head_, &length, sizeof(length));
  CopyIn(outbox_, head_ + sizeof(length), body.data(), body.size());
  head_ += sizeof(length) + body.size();
  Publish(head_);
}

std::string ShmPeer::ReadFrame() {
  const auto await = [this](uint64_t size) {
    while (inbox_.header().head - tail_ < size) {
      if (IsGone(socket_.get()) && inbox_.header().head - tail_ < size) {
        return false;
      }
      sched_yield();
    }
    return true;
  };
  uint32_t length = 0;
  if (!await(sizeof(length))) return "";
  CopyOut(inbox_, tail_, &length, sizeof(length));
  if (!await(sizeof(length) + length)) return "";
  std::string body(length, '\0');
  CopyOut(inbox_, tail_ + sizeof(length), body.data(), length);
  tail_ += sizeof(length) + length;
  inbox_.header().tail = tail_;
  Post(hello_.tokens.outbox);
  return body;
}

}  // namespace reprise::testing
