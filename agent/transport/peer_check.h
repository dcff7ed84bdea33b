// Checks whether what a peer says about itself agrees with what this agent has.
//
// TensorPipe believes its peers: it throws in its loop, or reads past the end
// of a list, when the two do not agree on the transport or the channels. Each
// object that comes is therefore checked here before TensorPipe sees it.

#ifndef REPRISE_AGENT_TRANSPORT_PEER_CHECK_H_
#define REPRISE_AGENT_TRANSPORT_PEER_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "agent/runtime/fifo.h"
#include "agent/runtime/native_mutex.h"
#include "agent/transport/arrivals.h"
#include "agent/transport/transports.h"
#include "tensorpipe/channel/mpt/nop_types.h"
#include "tensorpipe/core/nop_types.h"

namespace reprise {

// All transports of an agent share one PeerCheck. Thread-safe after `SetUp`.
class PeerCheck {
 public:
  // Whether a text may be an address of a transport, by the transport's name.
  using AddressCheck = std::function<bool(const std::string& transport,
                                          const std::string& address)>;

  // By default addresses are those of TensorPipe's transports.
  PeerCheck();
  explicit PeerCheck(AddressCheck is_address)
      : is_address_(std::move(is_address)) {}

  // Tells what this agent has. To be called once, before the agent connects or
  // listens. Keeps only weak references to the contexts.
  void SetUp(const TransportSet& set);

  // Of a caller: whether we have a transport and, for memory, a channel in
  // common.
  bool Accepts(const tensorpipe::Brochure& brochure) const;
  // Of a callee, in answer to our brochure, which went over `transport`:
  // whether it has chosen as we would have chosen.
  bool Accepts(const tensorpipe::BrochureAnswer& answer,
               const std::string& transport) const;
  // Of a callee in the channel mpt_uv: whether it offers kMptUvLanes lanes,
  // each at a valid address.
  bool Accepts(const tensorpipe::channel::mpt::ServerHello& hello) const;

  // We send this answer to a caller: from now on it may claim the connections
  // that the answer numbers, over the transport that the answer names.
  void HandOut(const tensorpipe::BrochureAnswer& answer);
  // A peer says hello over `transport`. TensorPipe would throw if the hello
  // claims a number that was handed out for another transport or was never
  // handed out. Such a number is replaced by one that TensorPipe does not know
  // and therefore ignores.
  void Claim(const std::string& transport, tensorpipe::Packet& hello);

  // Of the connections over all these transports.
  const std::shared_ptr<PipeArrivals>& arrivals() const { return arrivals_; }

 private:
  using Device = tensorpipe::Device;
  using DeviceDescriptors = std::unordered_map<Device, std::string>;
  using DescriptorsByChannel =
      std::unordered_map<std::string, DeviceDescriptors>;
  struct Transport {
    std::string name;
    std::weak_ptr<tensorpipe::transport::Context> context;
  };
  struct Channel {
    std::string name;
    std::weak_ptr<tensorpipe::channel::Context> context;
  };
  struct Selection {
    // By our device and the peer's.
    std::unordered_map<std::pair<Device, Device>, std::string> channels;
    std::unordered_map<std::string, size_t> num_connections;  // by channel
  };

  bool Agrees(const std::string& transport, const std::string& domain) const;
  Selection Select(const DescriptorsByChannel& theirs) const;

  // At most so many numbers that were handed out and not yet claimed are
  // remembered. Beyond that the oldest is forgotten.
  static constexpr size_t kMostHandedOut = size_t{1} << 16;

  void HandOut(uint64_t number, const std::string& transport)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const AddressCheck is_address_;
  const std::shared_ptr<PipeArrivals> arrivals_ =
      std::make_shared<PipeArrivals>();
  std::vector<Transport> transports_;
  std::vector<Channel> channels_;  // the highest priority first

  NativeMutex mutex_;
  // Which transport a number is for.
  std::unordered_map<uint64_t, std::string> handed_out_ ABSL_GUARDED_BY(mutex_);
  Fifo<uint64_t> oldest_first_ ABSL_GUARDED_BY(mutex_);
};

// The number of lanes that the channel mpt_uv of every agent has, as in
// PyTorch.
inline constexpr int kMptUvLanes = 16;

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_PEER_CHECK_H_
