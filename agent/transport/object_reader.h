// Decodes TensorPipe's own objects within bounds.
//
// TensorPipe's reader looks at no bounds, and what cannot be decoded is thrown
// in its loop: either ends the process.

#ifndef REPRISE_AGENT_TRANSPORT_OBJECT_READER_H_
#define REPRISE_AGENT_TRANSPORT_OBJECT_READER_H_

#include <string>
#include <string_view>

#include "agent/transport/peer_check.h"
#include "tensorpipe/common/nop.h"

namespace reprise {

// The connection that something came on.
struct Origin {
  const std::string& transport;
  bool is_caller;  // we made it
};

// Decodes all of `frame`, and nothing but, into `object`. Otherwise says what
// the peer did ("sent ..."), and TensorPipe must not look at the object: it
// does not hold what `object` is for, or `check` does not accept it. How many
// devices a DescriptorReply names is not checked: agents never ask for one.
std::string ReadObject(std::string_view frame, const Origin& origin,
                       const PeerCheck& check,
                       tensorpipe::AbstractNopHolder& object);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_OBJECT_READER_H_
