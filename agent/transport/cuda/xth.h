// The channel cuda_xth: two ends in one process, and one copy from the sender's
// memory to the receiver's, on the receiver's stream.
//
// On the wire it is TensorPipe's channel of that name. A descriptor is honoured
// only if a channel of this process wrote it (xth_offers.h), so the other end
// must be ours too; TensorPipe's own in the same process is refused.
//
// The callbacks: of a send, when the copy was enqueued and the send's stream
// waits for it; of a receive, when it was enqueued. With an error: nothing is
// enqueued any more, and what was is ordered before later work of the streams.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_XTH_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_XTH_H_

#include <memory>

#include "agent/transport/cuda/environment.h"
#include "tensorpipe/channel/context.h"

namespace reprise {

// `isViable()` is false without a GPU, and if one has no unified addressing.
std::shared_ptr<tensorpipe::channel::Context> MakeCudaXthContext(
    const GpuChannelEnvironment& environment);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_XTH_H_
