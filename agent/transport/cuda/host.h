// The channel cuda_host, between peers of ours: staging through host memory at
// the speed of the bus.
//
// On one host, the sender's slots lie in shared memory which both processes
// have registered with the driver: the sender's GPU copies into it and the
// receiver's out of it, and no CPU copies. Between hosts, or where that does
// not work, chunks go from pinned memory to pinned memory over a channel for
// CPU memory; with mpt_uv, that is over its many connections. Which way it is
// is found out by each sender before its first chunk.
//
// The connections: those of the CPU channel; then "offers", on which the chunks
// are announced in their order; then "replies". The frames are in wire.h. The
// shared memory belongs to one channel and one direction, so when a channel
// fails nobody writes over what the peer may still be reading.
//
// The callbacks: of a send, when the tensor is not read any more; of a receive,
// when its last copy has been enqueued on its stream. With an error both come
// when the tensor is not touched any more. What a peer says is checked; errors
// of the driver are errors of the channel. Nothing is waited for of a peer that
// has died, and its shared memory goes with the last of its two mappings.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_HOST_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_HOST_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "agent/transport/cuda/environment.h"
#include "tensorpipe/channel/context.h"

namespace reprise {

// What a tensor is cut into, and how many of these may be on their way: in each
// direction of each channel that uses shared memory, and in each direction of
// all channels of a context that do not. The same at both ends.
struct CudaHostSlots {
  size_t chunk_bytes = 0;
  uint32_t number = 0;
};
// One H200: 256 KiB 29.5 GB/s, 1 MiB 41, 2 MiB 45, 4 MiB 47, 8 MiB 48.
inline constexpr CudaHostSlots kCudaHostSlots = {size_t{4} << 20, 8};

// `cpu` belongs to the result, which closes and joins it. `isViable()` is false
// without a GPU, and if `cpu` is not viable. Two ends can communicate if those
// of `cpu` can.
std::shared_ptr<tensorpipe::channel::Context> MakeCudaHostContext(
    const GpuChannelEnvironment& environment,
    std::shared_ptr<tensorpipe::channel::Context> cpu,
    CudaHostSlots slots = kCudaHostSlots);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_HOST_H_
