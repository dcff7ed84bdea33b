// Decodes TensorPipe's own objects within bounds.
//
// TensorPipe's reader does not check bounds, and throws in its loop when an
// object cannot be decoded. Both would end the process. `ReadObject` may be
// called on any thread.

#ifndef REPRISE_AGENT_TRANSPORT_OBJECT_READER_H_
#define REPRISE_AGENT_TRANSPORT_OBJECT_READER_H_

#include <string>
#include <string_view>

#include "agent/transport/peer_check.h"
#include "tensorpipe/common/nop.h"

namespace reprise {

// The connection on which an object came.
struct Origin {
  const std::string& transport;
  bool is_caller;  // this agent opened the connection
};

// Decodes `frame` into `object` and returns "". The object must take up exactly
// the whole frame. If it does not, or if `check` does not accept it, the result
// says what the peer did ("sent ..."), and TensorPipe must not use `object`.
// The number of devices in a DescriptorReply is not checked, because agents
// never ask for one.
std::string ReadObject(std::string_view frame, const Origin& origin,
                       const PeerCheck& check,
                       tensorpipe::AbstractNopHolder& object);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_OBJECT_READER_H_
