#include "agent/transport/shm/hello.h"

#include <errno.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "uv.h"

namespace reprise::shm {
namespace {

constexpr size_t kNumFiles = 4;
static_assert(sizeof(Tokens) == 8);

// A control message with room for exactly these descriptors.
union Control {
  cmsghdr header;
  char bytes[CMSG_SPACE(kNumFiles * sizeof(int))];
};

std::vector<FileDescriptor> TakeFiles(msghdr& message) {
  std::vector<FileDescriptor> files;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      files.emplace_back(fd);
    }
  }
  return files;
}

}  // namespace

int SendHello(int socket, const Tokens& tokens, const Ring::Files& queue,
              const Ring::Files& inbox) {
  const std::array<int, kNumFiles> files = {
      queue.header.get(), queue.data.get(), inbox.header.get(),
      inbox.data.get()};
  iovec bytes = {const_cast<Tokens*>(&tokens), sizeof(tokens)};
  Control control = {};
  control.header.cmsg_len = CMSG_LEN(sizeof(files));
  control.header.cmsg_level = SOL_SOCKET;
  control.header.cmsg_type = SCM_RIGHTS;
  std::memcpy(CMSG_DATA(&control.header), files.data(), sizeof(files));
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof(control);
  ssize_t size = -1;
  do {
    size = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (size < 0 && errno == EINTR);
  // Too many descriptors of this user are under way. libuv does not know that
  // error, and leaks the text that it makes for it.
  if (size < 0 && errno == ETOOMANYREFS) return UV_EMFILE;
  if (size < 0) return uv_translate_sys_error(errno);
  return size == static_cast<ssize_t>(sizeof(tokens)) ? 0 : UV_EIO;
}

int ReceiveHello(int socket, PeerHello& hello) {
  // A peer sends its hello in one piece, so either all of it is there or none.
  ssize_t size = -1;
  do {
    size = recv(socket, &hello.tokens, sizeof(hello.tokens),
                MSG_PEEK | MSG_DONTWAIT);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return uv_translate_sys_error(errno);
  if (size == 0) return UV_EOF;
  if (size < static_cast<ssize_t>(sizeof(hello.tokens))) return UV_EPROTO;
  // Descriptors that the process has no room for would be lost.
  if (!HasFreeDescriptors(kNumFiles)) return UV_EMFILE;
  iovec bytes = {&hello.tokens, sizeof(hello.tokens)};
  Control control = {};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof(control);
  do {
    size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return uv_translate_sys_error(errno);
  std::vector<FileDescriptor> files = TakeFiles(message);
  if (size != static_cast<ssize_t>(sizeof(hello.tokens)) ||
      (message.msg_flags & MSG_CTRUNC) != 0 || files.size() != kNumFiles) {
    return UV_EPROTO;
  }
  hello.queue = {std::move(files[0]), std::move(files[1])};
  hello.inbox = {std::move(files[2]), std::move(files[3])};
  return 0;
}

}  // namespace reprise::shm
