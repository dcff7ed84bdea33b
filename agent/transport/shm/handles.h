// What TensorPipe's core holds of a shm connection: its operations hand over to
// the loop's thread, and to destroy it closes the connection.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_HANDLES_H_
#define REPRISE_AGENT_TRANSPORT_SHM_HANDLES_H_

#include <memory>

#include "agent/transport/shm/connection.h"
#include "agent/transport/shm/context_core.h"
#include "agent/transport/shm/listener.h"
#include "tensorpipe/transport/connection.h"
#include "tensorpipe/transport/listener.h"

namespace reprise::shm {

// It also is a `PeerLiveness` and an `ArrivalClock`.
std::shared_ptr<tensorpipe::transport::Connection> MakeHandle(
    std::shared_ptr<ContextCore> context,
    std::shared_ptr<Connection> connection);

std::shared_ptr<tensorpipe::transport::Listener> MakeHandle(
    std::shared_ptr<ContextCore> context, std::shared_ptr<Listener> listener);

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_HANDLES_H_
