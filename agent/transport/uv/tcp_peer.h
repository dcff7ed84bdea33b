// Finds the process at the other end of a TCP connection within this host.

#ifndef REPRISE_AGENT_TRANSPORT_UV_TCP_PEER_H_
#define REPRISE_AGENT_TRANSPORT_UV_TCP_PEER_H_

#include <sys/types.h>

#include <optional>
#include <string>

namespace reprise {

// The two ends of a TCP connection, as /proc/<pid>/net/tcp prints them.
struct TcpEnds {
  std::string ours;
  std::string theirs;
  const char* table = "tcp";  // or tcp6
};

// Nothing when `fd` is no socket that is connected over TCP.
std::optional<TcpEnds> TcpEndsOf(int fd);

// Of one connection. Not thread-safe. Reads /proc, and does not throw.
class TcpPeer {
 public:
  // Whether the process `pid` has a descriptor of the socket at the other end.
  // The first time looks through all sockets in the network namespace of `pid`
  // and all its descriptors; after that it looks at the one that it found.
  bool IsHeldBy(pid_t pid, const TcpEnds& ends);

 private:
  bool Find(pid_t pid, const TcpEnds& ends);

  pid_t pid_ = 0;
  std::string link_;    // /proc/<pid>/fd/<n>
  std::string target_;  // socket:[<inode>]
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_TCP_PEER_H_
