// What a connection knows of the process at its other end, beside what
// tensorpipe::transport::Connection offers.

#ifndef REPRISE_AGENT_TRANSPORT_PEER_LIVENESS_H_
#define REPRISE_AGENT_TRANSPORT_PEER_LIVENESS_H_

#include <sys/types.h>

#include <optional>

namespace reprise {

// Implemented by the connections of our own transports; find it with a
// dynamic_cast. Any thread may call it.
class PeerLiveness {
 public:
  virtual ~PeerLiveness() = default;

  // Whether, as far as the kernel knows now, the peer has neither closed nor
  // lost this connection. False once this end is closed, too.
  virtual bool PeerIsOpen() = 0;
  // The process at the other end as the kernel names it (SO_PEERCRED, over
  // shm); nullopt where it does not, as over TCP.
  virtual std::optional<pid_t> PeerPid() = 0;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_PEER_LIVENESS_H_
