// The transport shm: TensorPipe's own protocol over shared memory, between
// processes of one machine, that holds whatever a peer does to that memory.
//
// To its peers it is TensorPipe's transport shm. But that one spins while
// nothing happens, takes seven descriptors for each connection, loses what a
// peer wrote before it closed, and ends the process for want of a descriptor or
// at the first number that makes no sense. Here a connection fails, or a
// listener does, with the reason; a connection takes one descriptor; and the
// thread sleeps, but for short naps while a peer of TensorPipe's own transport
// is connected, which cannot wake it.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_CONTEXT_H_
#define REPRISE_AGENT_TRANSPORT_SHM_CONTEXT_H_

#include <memory>
#include <string>

#include "tensorpipe/transport/context.h"

namespace reprise {

// With a thread of its own, on which all callbacks are called. Addresses are
// names of abstract unix sockets; empty: one that the kernel picks. Throws when
// there is no thread or descriptor to be had. Its connections are
// `PeerLiveness`.
std::shared_ptr<tensorpipe::transport::Context> MakeShmContext();

// Why a context of these is not viable here; empty: it is.
std::string WhyShmIsNotViable();

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_SHM_CONTEXT_H_
