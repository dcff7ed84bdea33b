// Whether what a peer says of itself goes with what this agent has.
//
// TensorPipe takes a peer's word: it throws in its loop, or reads past the end,
// when the two do not agree on transport or channels. So each object that comes
// is looked at before TensorPipe sees it.

#ifndef REPRISE_AGENT_TRANSPORT_PEER_CHECK_H_
#define REPRISE_AGENT_TRANSPORT_PEER_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "agent/transport/arrivals.h"
#include "agent/transport/transports.h"
#include "tensorpipe/channel/mpt/nop_types.h"
#include "tensorpipe/core/nop_types.h"

namespace reprise {

// One for all transports of an agent. Thread-safe once it is set up.
class PeerCheck {
 public:
  // What this agent has; before anybody is connected to or listened for. The
  // contexts are not kept.
  void SetUp(const TransportSet& set);

  // A caller's: there are a transport and, for memory, a channel in common.
  bool Accepts(const tensorpipe::Brochure& brochure) const;
  // A callee's, to ours, which went over `transport`: it has chosen as we
  // would.
  bool Accepts(const tensorpipe::BrochureAnswer& answer,
               const std::string& transport) const;
  // Of a channel mpt_uv's callee: so many lanes, at addresses.
  bool Accepts(const tensorpipe::channel::mpt::ServerHello& hello) const;

  // We answer a caller: it may claim the connections that the answer numbers,
  // over the transport that it names.
  void HandOut(const tensorpipe::BrochureAnswer& answer);
  // Somebody says hello over `transport`. To claim what was handed out for
  // another transport, or to nobody, would throw: such a number is changed to
  // one that TensorPipe does not know, and so ignores.
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

  // As many as are remembered of those that nobody has claimed.
  static constexpr size_t kMostHandedOut = size_t{1} << 16;

  void HandOut(uint64_t number, const std::string& transport)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::shared_ptr<PipeArrivals> arrivals_ =
      std::make_shared<PipeArrivals>();
  std::vector<Transport> transports_;
  std::vector<Channel> channels_;  // the highest priority first

  absl::Mutex mutex_;
  // Which transport a number is for.
  std::unordered_map<uint64_t, std::string> handed_out_ ABSL_GUARDED_BY(mutex_);
  std::deque<uint64_t> oldest_first_ ABSL_GUARDED_BY(mutex_);
};

// How many lanes the channel mpt_uv of every agent has: PyTorch's number.
inline constexpr int kMptUvLanes = 16;

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_PEER_CHECK_H_
