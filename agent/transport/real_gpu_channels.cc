#include "agent/transport/real_gpu_channels.h"

#include <exception>
#include <utility>

#include "agent/transport/cuda/environment.h"
#include "agent/transport/cuda/shared_memory.h"
#include "glog/logging.h"

namespace reprise {

std::vector<GpuChannel> MakeRealGpuChannels(Devices* devices,
                                            const MakeCpuChannel& make_basic,
                                            const MakeCpuChannel& make_fast) {
  if (devices == nullptr || devices->gpu_count() == 0) return {};
  absl::StatusOr<ProcessIdentity> process = ThisProcess();
  if (!process.ok()) {
    LOG(WARNING) << "there are no channels for GPUs: "
                 << process.status().message();
    return {};
  }
  try {
    return MakeGpuChannels({.driver = devices->gpu_driver(),
                            .runtime = devices->runtime(),
                            .shared_memory = &RealSharedMemory(),
                            .process = *std::move(process)},
                           make_basic, make_fast);
  } catch (const std::exception& error) {
    LOG(WARNING) << "there are no channels for GPUs: " << error.what();
    return {};
  }
}

absl::StatusOr<std::shared_ptr<tensorpipe::channel::Context>> FindChannel(
    std::string_view name, const std::vector<GpuChannel>& channels) {
  for (const GpuChannel& channel : channels) {
    if (channel.name != name) continue;
    if (channel.context != nullptr) return channel.context;
    return absl::UnavailableError(channel.why_not);
  }
  return absl::UnavailableError("this agent has no GPUs");
}

}  // namespace reprise
