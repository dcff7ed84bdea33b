// Apart from the network, which needs no channels for GPUs.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "agent/transport/cuda/channels.h"
#include "sim/network/network.h"
#include "tensorpipe/channel/basic/factory.h"

namespace reprise {

absl::StatusOr<TransportSet> SimTransports::Make(
    const TransportOptions& options, Devices* devices) {
  TransportSet set = network_.MakeTransports(node_, options);
  if (!gpus_.has_value() || devices == nullptr || devices->gpu_count() == 0) {
    return set;
  }
  const std::vector<std::string>& wanted = options.channels;
  const auto make_basic = [] { return tensorpipe::channel::basic::create(); };
  for (GpuChannel& channel : MakeGpuChannels(*gpus_, make_basic, make_basic)) {
    const auto place = std::find(wanted.begin(), wanted.end(), channel.name);
    if (channel.context == nullptr ||
        (place == wanted.end() && !wanted.empty())) {
      continue;
    }
    if (place != wanted.end()) channel.priority = wanted.end() - place;
    set.channels.push_back({std::move(channel.name), channel.priority,
                            std::move(channel.context)});
  }
  std::stable_sort(set.channels.begin(), set.channels.end(),
                   [](const ChannelEntry& a, const ChannelEntry& b) {
                     return a.priority > b.priority;
                   });
  return set;
}

}  // namespace reprise
