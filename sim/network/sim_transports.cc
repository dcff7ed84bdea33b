// Apart from the network, which needs only the channel "basic".

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/transport/checked_transport.h"
#include "agent/transport/cma/context.h"
#include "agent/transport/cuda/channels.h"
#include "agent/transport/peer_check.h"
#include "sim/network/network.h"
#include "sim/network/sim_transport.h"
#include "tensorpipe/channel/basic/factory.h"
#include "tensorpipe/channel/mpt/factory.h"

namespace reprise {
namespace {

// The name under which users ask for a channel.
std::string_view WantedName(std::string_view channel) {
  return channel == CmaNameOf(CmaProtocol::kOwn)
             ? CmaNameOf(CmaProtocol::kStock)
             : channel;
}

void KeepWanted(const std::vector<std::string>& wanted,
                std::vector<ChannelEntry>& channels) {
  std::vector<ChannelEntry> kept;
  for (ChannelEntry& channel : channels) {
    const auto place =
        std::find(wanted.begin(), wanted.end(), WantedName(channel.name));
    // Without "basic" there would be nothing between two hosts.
    if (place == wanted.end() && channel.name != "basic") continue;
    channel.priority = wanted.end() - place;
    kept.push_back(std::move(channel));
  }
  channels = std::move(kept);
}

bool IsWanted(const std::vector<std::string>& wanted, const char* channel) {
  return std::find(wanted.begin(), wanted.end(), channel) != wanted.end();
}

}  // namespace

std::shared_ptr<tensorpipe::channel::Context> SimTransports::MakeMptUv(
    const std::shared_ptr<PipeArrivals>& arrivals,
    const std::shared_ptr<PeerCheck>& check) {
  std::vector<std::shared_ptr<tensorpipe::transport::Context>> contexts;
  std::vector<std::shared_ptr<tensorpipe::transport::Listener>> listeners;
  for (int i = 0; i < kMptUvLanes; ++i) {
    contexts.push_back(
        std::make_shared<SimTransport>(network_, node_, "lane", arrivals));
    if (check != nullptr) {
      contexts.back() = MakeChecked("lane", std::move(contexts.back()), check,
                                    CheckedUse::kChannel, network_.room_);
    }
    listeners.push_back(contexts.back()->listen(""));
  }
  return tensorpipe::channel::mpt::create(std::move(contexts),
                                          std::move(listeners));
}

absl::StatusOr<TransportSet> SimTransports::Make(
    const TransportOptions& options, Devices* devices) {
  TransportSet set = network_.MakeTransports(node_, options);
  std::shared_ptr<PeerCheck> check;
  if (network_.options_.checks_peers) {
    // Any name may be listened at in a simulated network.
    check = std::make_shared<PeerCheck>(
        [](const std::string&, const std::string& address) {
          return !address.empty();
        });
    for (TransportEntry& transport : set.transports) {
      transport.context =
          MakeChecked(transport.name, std::move(transport.context), check,
                      CheckedUse::kCore, network_.room_);
    }
    set.arrivals = check->arrivals();
  }
  const std::vector<std::string>& wanted = options.channels;
  if (cma_.has_value() && IsWanted(wanted, "cma")) {
    set.channels.push_back({CmaNameOf(CmaProtocol::kOwn), 0,
                            MakeCmaContext(CmaProtocol::kOwn, *cma_)});
  }
  if (IsWanted(wanted, "mpt_uv")) {
    set.channels.push_back({"mpt_uv", 0, MakeMptUv(set.arrivals, check)});
  }
  if (gpus_.has_value() && devices != nullptr && devices->gpu_count() > 0) {
    const auto make_basic = [] { return tensorpipe::channel::basic::create(); };
    for (GpuChannel& channel :
         MakeGpuChannels(*gpus_, make_basic, make_basic)) {
      if (channel.context == nullptr) continue;
      set.channels.push_back({std::move(channel.name), channel.priority,
                              std::move(channel.context)});
    }
  }
  if (!wanted.empty()) KeepWanted(wanted, set.channels);
  std::stable_sort(set.channels.begin(), set.channels.end(),
                   [](const ChannelEntry& a, const ChannelEntry& b) {
                     return a.priority > b.priority;
                   });
  if (check != nullptr) check->SetUp(set);
  return set;
}

}  // namespace reprise
