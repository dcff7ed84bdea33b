// A channel for GPUs that sends small tensors one way and large ones another.
//
// It makes cuda_direct fast for both. Two processes on one GPU take turns on
// the engine that runs kernels and copies within the GPU, and a turn takes
// about 150 us; copies between the GPU and registered memory of the host need
// no turn. So small tensors go through memory of the host, and large ones are
// copied within the GPU. On one H200 the copies alone of 64 B there and back
// take 35 us that way, and 300 us within the GPU.
//
// Both ends know a tensor's length, so nothing is written about it. The
// connections: those of the channel for large tensors, in its order; then those
// of the other one. Callbacks come when they come from the channel that was
// chosen; an error of either is an error of both.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_BY_SIZE_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_BY_SIZE_H_

#include <cstddef>
#include <memory>

#include "agent/transport/cuda/environment.h"
#include "tensorpipe/channel/context.h"

namespace reprise {

// The two contexts belong to the result, which closes and joins them. It has
// the descriptors of `large` behind `most_small_bytes`, which must be the same
// at both ends. Whether these can communicate is the word of `large`; where
// they can, those of `small` must be able to. `isViable()` is false unless both
// are viable.
std::shared_ptr<tensorpipe::channel::Context> MakeBySizeContext(
    const GpuChannelEnvironment& environment, size_t most_small_bytes,
    std::shared_ptr<tensorpipe::channel::Context> small,
    std::shared_ptr<tensorpipe::channel::Context> large);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_BY_SIZE_H_
