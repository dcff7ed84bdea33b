#include "agent/transport/shm/peer_identity.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/transport/shm/file_descriptor.h"

namespace reprise::shm {
namespace {

// Names that Debian 12's headers lack.
constexpr int kSoPeerPidfd = 77;  // SO_PEERPIDFD
constexpr long kPidfdOpen = 434;  // __NR_pidfd_open

bool HasEnded(const FileDescriptor& process) {
  pollfd poll_fd = {process.get(), POLLIN, 0};
  return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLIN) != 0;
}

}  // namespace

PeerIdentity IdentifyPeer(int socket) {
  ucred credentials = {};
  socklen_t size = sizeof(credentials);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return {};
  }
  return {credentials.pid, credentials.uid == geteuid()};
}

bool IsSocketOpen(int socket) {
  pollfd poll_fd = {socket, POLLRDHUP, 0};
  if (poll(&poll_fd, 1, 0) < 0) return false;
  return (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) == 0;
}

bool HasPeerProcessEnded(int socket) {
  int fd = -1;
  socklen_t size = sizeof(fd);
  if (getsockopt(socket, SOL_SOCKET, kSoPeerPidfd, &fd, &size) == 0) {
    return HasEnded(FileDescriptor(fd));
  }
  // Some kernels give no descriptor of a process that has been waited for.
  if (errno == ESRCH || errno == EINVAL) return true;
  return errno == ENOPROTOOPT && HasProcessEnded(IdentifyPeer(socket).pid);
}

bool HasProcessEnded(pid_t pid) {
  if (pid <= 0) return false;
  const FileDescriptor process(static_cast<int>(syscall(kPidfdOpen, pid, 0)));
  return process.is_open() ? HasEnded(process) : errno == ESRCH;
}

}  // namespace reprise::shm
