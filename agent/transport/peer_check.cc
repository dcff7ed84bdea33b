#include "agent/transport/peer_check.h"

#include <sys/un.h>

#include <algorithm>
#include <exception>
#include <limits>

#include "tensorpipe/transport/uv/sockaddr.h"

namespace reprise {
namespace {

using tensorpipe::Brochure;
using tensorpipe::BrochureAnswer;
using tensorpipe::channel::mpt::LaneAdvertisement;
using tensorpipe::channel::mpt::ServerHello;

// The numbers that TensorPipe's core gives to the connection for descriptors
// and to the one for the replies to them.
constexpr uint64_t kDescriptorReply = 1;
constexpr uint64_t kDescriptor = 0;

bool IsInternetAddress(const std::string& address) {
  try {
    tensorpipe::transport::uv::Sockaddr::createInetSockAddr(address);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

// Whether the transport, which throws, will be able to parse it.
bool IsAddress(const std::string& transport, const std::string& address) {
  if (transport == "shm") {
    return address.size() < sizeof(sockaddr_un::sun_path) - 1;
  }
  // ibv does not accept an IPv6 zone.
  return IsInternetAddress(address) &&
         (transport == "uv" || address.find('%') == address.npos);
}

}  // namespace

PeerCheck::PeerCheck() : PeerCheck(IsAddress) {}

void PeerCheck::SetUp(const TransportSet& set) {
  for (const TransportEntry& transport : set.transports) {
    transports_.push_back({transport.name, transport.context});
  }
  for (const ChannelEntry& channel : set.channels) {
    channels_.push_back({channel.name, channel.context});
  }
}

bool PeerCheck::Agrees(const std::string& transport,
                       const std::string& domain) const {
  return std::any_of(transports_.begin(), transports_.end(),
                     [&](const Transport& ours) {
                       const auto context = ours.context.lock();
                       return ours.name == transport && context != nullptr &&
                              context->canCommunicateWithRemote(domain);
                     });
}

PeerCheck::Selection PeerCheck::Select(
    const DescriptorsByChannel& theirs) const {
  Selection selection;
  for (const Channel& channel : channels_) {
    const auto offered = theirs.find(channel.name);
    const auto context = channel.context.lock();
    if (offered == theirs.end() || context == nullptr) continue;
    for (const auto& [our_device, ours] : context->deviceDescriptors()) {
      for (const auto& [their_device, their] : offered->second) {
        if (!context->canCommunicateWithRemote(ours, their)) continue;
        const bool is_first =
            selection.channels
                .emplace(std::pair(our_device, their_device), channel.name)
                .second;
        if (is_first) {
          selection.num_connections[channel.name] =
              context->numConnectionsNeeded();
        }
      }
    }
  }
  return selection;
}

bool PeerCheck::Accepts(const Brochure& brochure) const {
  const auto& domains = brochure.transportDomainDescriptors;
  const bool has_transport = std::any_of(
      domains.begin(), domains.end(),
      [&](const auto& offer) { return Agrees(offer.first, offer.second); });
  const Device memory(tensorpipe::kCpuDeviceType, 0);
  return has_transport && Select(brochure.channelDeviceDescriptors)
                              .channels.contains({memory, memory});
}

bool PeerCheck::Accepts(const BrochureAnswer& answer,
                        const std::string& transport) const {
  const auto& ids = answer.transportRegistrationIds;
  if (!Agrees(answer.transport, answer.transportDomainDescriptor) ||
      !is_address_(answer.transport, answer.address) ||
      !ids.contains(kDescriptorReply) ||
      (answer.transport != transport && !ids.contains(kDescriptor))) {
    return false;
  }
  const Selection selection = Select(answer.channelDeviceDescriptors);
  const Device memory(tensorpipe::kCpuDeviceType, 0);
  if (!selection.channels.contains({memory, memory}) ||
      answer.channelForDevicePair.size() != selection.channels.size()) {
    return false;
  }
  for (const auto& [pair, channel] : selection.channels) {
    const auto theirs =
        answer.channelForDevicePair.find({pair.second, pair.first});
    if (theirs == answer.channelForDevicePair.end() ||
        theirs->second != channel) {
      return false;
    }
  }
  for (const auto& [channel, num_connections] : selection.num_connections) {
    const auto theirs = answer.channelRegistrationIds.find(channel);
    if (theirs == answer.channelRegistrationIds.end() ||
        theirs->second.size() != num_connections) {
      return false;
    }
  }
  return true;
}

bool PeerCheck::Accepts(const ServerHello& hello) const {
  const auto& lanes = hello.laneAdvertisements;
  return lanes.size() == kMptUvLanes &&
         std::all_of(lanes.begin(), lanes.end(),
                     [this](const LaneAdvertisement& lane) {
                       return is_address_("uv", lane.address);
                     });
}

void PeerCheck::HandOut(const BrochureAnswer& answer) {
  const NativeMutexLock lock(mutex_);
  for (const auto& [purpose, number] : answer.transportRegistrationIds) {
    HandOut(number, answer.transport);
  }
  for (const auto& [channel, numbers] : answer.channelRegistrationIds) {
    for (const uint64_t number : numbers) HandOut(number, answer.transport);
  }
}

void PeerCheck::HandOut(uint64_t number, const std::string& transport) {
  handed_out_[number] = transport;
  oldest_first_.push_back(number);
  if (oldest_first_.size() <= kMostHandedOut) return;
  handed_out_.erase(oldest_first_.front());
  oldest_first_.pop_front();
}

void PeerCheck::Claim(const std::string& transport, tensorpipe::Packet& hello) {
  auto* const claim = hello.get<tensorpipe::RequestedConnection>();
  if (claim == nullptr) return;
  const NativeMutexLock lock(mutex_);
  const auto it = handed_out_.find(claim->registrationId);
  if (it != handed_out_.end() && it->second == transport) {
    handed_out_.erase(it);
  } else {
    claim->registrationId = std::numeric_limits<uint64_t>::max();
  }
}

}  // namespace reprise
