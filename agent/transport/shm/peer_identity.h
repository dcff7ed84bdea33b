// Who is at the other end of a unix socket, as the kernel says.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_PEER_IDENTITY_H_
#define REPRISE_AGENT_TRANSPORT_SHM_PEER_IDENTITY_H_

#include <sys/types.h>

namespace reprise::shm {

// The process that connected or, on the connecting side, called listen().
struct PeerIdentity {
  pid_t pid = 0;  // 0: unknown, or of a namespace that is not ours
  bool is_same_user = false;
};
PeerIdentity IdentifyPeer(int socket);

// Whether the kernel has told `socket` that the other end is closed. Works
// while bytes wait to be read.
bool IsSocketOpen(int socket);

// Whether the peer's process has ended, though a child of it may still hold the
// socket open. False when it cannot be found out.
bool HasPeerProcessEnded(int socket);

// The same of a process by its number: for kernels before 6.5.
bool HasProcessEnded(pid_t pid);

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_PEER_IDENTITY_H_
