// A transport of TensorPipe's whose peers are not believed.
//
// What a peer sends of TensorPipe's own objects is decoded within bounds and
// compared with what we have before TensorPipe sees it; what makes no sense
// fails its connection, with "EPROTO". What users send passes through.

#ifndef REPRISE_AGENT_TRANSPORT_CHECKED_TRANSPORT_H_
#define REPRISE_AGENT_TRANSPORT_CHECKED_TRANSPORT_H_

#include <memory>
#include <string>

#include "agent/transport/peer_check.h"
#include "tensorpipe/transport/context.h"

namespace reprise {

// `inner` under the name `transport`. Frames that are not as long as is said
// are the inner one's to refuse. Its connections are `PeerLiveness` where the
// inner ones are.
std::shared_ptr<tensorpipe::transport::Context> MakeChecked(
    std::string transport,
    std::shared_ptr<tensorpipe::transport::Context> inner,
    std::shared_ptr<PeerCheck> check);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CHECKED_TRANSPORT_H_
