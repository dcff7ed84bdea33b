// All channels for GPUs, under the names and priorities by which peers and
// TensorPipe's core know them.
//
// The names that TensorPipe has are for peers that have it, with its
// priorities. `cuda_direct` and `cuda_host` are between our own peers, and go
// before what TensorPipe has for the same pairs of devices. `cuda_gdr` is not
// implemented: it is in no brochure of ours, so a peer that has it agrees with
// us on the next channel.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_CHANNELS_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_CHANNELS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/transport/cuda/environment.h"
#include "tensorpipe/channel/context.h"

namespace reprise {

struct GpuChannel {
  std::string name;
  int64_t priority = 0;
  // Null, and the reason, if it cannot work here.
  std::shared_ptr<tensorpipe::channel::Context> context;
  std::string why_not;
};

using MakeCpuChannel =
    std::function<std::shared_ptr<tensorpipe::channel::Context>()>;

// One of each, the highest priority first. `make_basic` makes what `cuda_basic`
// is built on, TensorPipe's "basic" where peers are to be understood;
// `make_fast` what `cuda_host` is built on between hosts, mpt_uv where there is
// one. Does not throw unless these do.
std::vector<GpuChannel> MakeGpuChannels(
    const GpuChannelEnvironment& environment, const MakeCpuChannel& make_basic,
    const MakeCpuChannel& make_fast);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_CHANNELS_H_
