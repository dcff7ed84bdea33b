// The channels for GPUs of an agent over real transports. Only for the sources
// of `RealTransports()`.

#ifndef REPRISE_AGENT_TRANSPORT_REAL_GPU_CHANNELS_H_
#define REPRISE_AGENT_TRANSPORT_REAL_GPU_CHANNELS_H_

#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/device/devices.h"
#include "agent/transport/cuda/channels.h"
#include "tensorpipe/channel/context.h"

namespace reprise {

// As `MakeGpuChannels` says. None when `devices` is null or has no GPUs.
std::vector<GpuChannel> MakeRealGpuChannels(Devices* devices,
                                            const MakeCpuChannel& make_basic,
                                            const MakeCpuChannel& make_fast);

// The one of this name, or UNAVAILABLE with the reason why there is none.
absl::StatusOr<std::shared_ptr<tensorpipe::channel::Context>> FindChannel(
    std::string_view name, const std::vector<GpuChannel>& channels);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_REAL_GPU_CHANNELS_H_
