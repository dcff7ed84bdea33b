// The channel cuda_basic: staging through pinned memory and a channel for CPU
// memory. It works between any two devices of any two hosts, host memory at one
// end included.
//
// On the wire it is TensorPipe's channel of that name over the same CPU
// channel. The callbacks: of a send, when the tensor is not read any more; of a
// receive, when its last copy has been enqueued on its stream. With an error
// both come when the tensor is not touched any more. Errors of the driver are
// errors of the channel.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_BASIC_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_BASIC_H_

#include <memory>

#include "agent/transport/cuda/environment.h"
#include "tensorpipe/channel/context.h"

namespace reprise {

// `cpu` belongs to the result, which closes and joins it. PyTorch's is
// TensorPipe's "basic", which is what peers expect. `isViable()` is false
// without a GPU, and if `cpu` is not viable.
std::shared_ptr<tensorpipe::channel::Context> MakeCudaBasicContext(
    const GpuChannelEnvironment& environment,
    std::shared_ptr<tensorpipe::channel::Context> cpu);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_BASIC_H_
