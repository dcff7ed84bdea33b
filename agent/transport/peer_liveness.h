// What the channel cma must know of the process at the other end of a
// connection, whose memory it reads.

#ifndef REPRISE_AGENT_TRANSPORT_PEER_LIVENESS_H_
#define REPRISE_AGENT_TRANSPORT_PEER_LIVENESS_H_

#include <sys/types.h>

#include <optional>

namespace reprise {

// A connection of a transport that can answer implements this beside
// `tensorpipe::transport::Connection`; `dynamic_cast` finds it. Every function
// may be called on any thread, also after the connection was closed, and does
// not wait for the transport's own thread.
class PeerLiveness {
 public:
  virtual ~PeerLiveness() = default;

  // False once the peer has closed its end, or its end has failed, or ours was
  // closed. It asks the kernel, and so knows of an end of stream that the
  // transport has not handled yet. What has arrived and was not read does not
  // count as an end.
  virtual bool PeerIsOpen() = 0;

  // The process that connected or listened (SO_PEERCRED), where the kernel
  // keeps that: over Unix sockets. Nothing over TCP.
  virtual std::optional<pid_t> PeerPid() = 0;

  // Whether the process `pid` holds the other end. Over TCP it can be shown for
  // a process of this host whose descriptors we may list, and then tells at the
  // same time that the process has not closed it. False when it is not so, and
  // when it cannot be shown.
  virtual bool PeerIsProcess(pid_t pid) { return PeerPid() == pid; }
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_PEER_LIVENESS_H_
