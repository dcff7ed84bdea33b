// A wrapper around one of TensorPipe's transports that checks what peers send.
//
// Objects of TensorPipe's own are decoded within bounds and compared with what
// this agent has before TensorPipe sees them. An object that fails a check
// fails its connection with "EPROTO". The user's bytes pass through unchanged.
// A listener of the core's never sees a connection whose hello does not come.

#ifndef REPRISE_AGENT_TRANSPORT_CHECKED_TRANSPORT_H_
#define REPRISE_AGENT_TRANSPORT_CHECKED_TRANSPORT_H_

#include <memory>
#include <string>

#include "agent/transport/descriptor_room.h"
#include "agent/transport/peer_check.h"
#include "tensorpipe/transport/context.h"

namespace reprise {

// Who uses a transport.
enum class CheckedUse {
  kCore,     // TensorPipe's core: callers begin with its hello
  kChannel,  // a channel, for its lanes
};

// Wraps `inner`, which is registered with TensorPipe under the name
// `transport`. The thread of `inner` calls all callbacks. `inner` itself must
// refuse a frame that does not have the length that its read expects. The
// connections are `PeerLiveness` if those of `inner` are. `room` is where
// listeners for the core find room for new pipes; it must outlive the context.
std::shared_ptr<tensorpipe::transport::Context> MakeChecked(
    std::string transport,
    std::shared_ptr<tensorpipe::transport::Context> inner,
    std::shared_ptr<PeerCheck> check, CheckedUse use,
    DescriptorRoom& room = DescriptorRoom::OfProcess());

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CHECKED_TRANSPORT_H_
