// The context and a channel of cuda_direct: direct.h says what they promise.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_CHANNEL_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_CHANNEL_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/transport/cuda/direct_claims.h"
#include "agent/transport/cuda/direct_exports.h"
#include "agent/transport/cuda/direct_imports.h"
#include "agent/transport/cuda/gpu_context.h"
#include "agent/transport/cuda/stream_watch.h"
#include "agent/transport/cuda/wire.h"
#include "tensorpipe/channel/channel_impl_boilerplate.h"
#include "tensorpipe/transport/connection.h"

namespace reprise {

class DirectChannel;

class DirectContext final
    : public GpuContextImpl<DirectContext, DirectChannel> {
 public:
  static std::shared_ptr<DirectContext> create(
      const GpuChannelEnvironment& environment);

  DirectContext(const GpuChannelEnvironment& environment,
                DeviceDescriptors descriptors)
      : GpuContextImpl(environment, std::move(descriptors)),
        staging_(driver()) {}

  std::shared_ptr<tensorpipe::channel::Channel> createChannel(
      std::vector<std::shared_ptr<tensorpipe::transport::Connection>>
          connections,
      tensorpipe::channel::Endpoint endpoint);
  size_t numConnectionsNeeded() const override { return 2; }
  bool canCommunicateWithRemote(const std::string& ours,
                                const std::string& theirs) const override;

  DirectStaging& staging() { return staging_; }

 private:
  DirectStaging staging_;
};

// Used in the context's loop.
class DirectChannel final
    : public tensorpipe::channel::ChannelImplBoilerplate<DirectContext,
                                                         DirectChannel> {
 public:
  DirectChannel(ConstructorToken token, std::shared_ptr<DirectContext> context,
                std::string id,
                std::shared_ptr<tensorpipe::transport::Connection> offers,
                std::shared_ptr<tensorpipe::transport::Connection> replies);

 protected:
  void initImplFromLoop() override;
  void sendImplFromLoop(uint64_t number, tensorpipe::Buffer buffer,
                        size_t length,
                        tensorpipe::channel::TSendCallback done) override;
  void recvImplFromLoop(uint64_t number, tensorpipe::Buffer buffer,
                        size_t length,
                        tensorpipe::channel::TRecvCallback done) override;
  void handleErrorImpl() override;

 private:
  struct Send {
    GpuBuffer buffer;
    size_t length;
    tensorpipe::channel::TSendCallback done;
    size_t position = 0;  // of the next chunk, if it is staged
  };
  struct Receive {
    GpuBuffer buffer;
    size_t length;
    tensorpipe::channel::TRecvCallback done;
    size_t position = 0;  // of what is offered next
  };
  // What the peer may be copying.
  struct Offered {
    uint32_t memory;                      // index of the exported allocation
    DirectStaging::Area* area = nullptr;  // if it is staged
    int slot = SlotPool::kNone;
    std::vector<Send> ended;  // called back when it is over: one, or none
  };
  struct Source {
    GpuAllocation allocation;
    size_t offset;
    size_t length;
  };

  // direct_send.cc
  void OnHello(const GpuHello& hello);
  void SendNext();
  // They offer the first tensor, or its next chunk.
  void OfferWhole(const GpuAllocation& allocation);
  void OfferStaged();
  void OnSlot(DirectStaging::Area* area, int slot);
  absl::Status FillSlot(DirectStaging::Area& area, int slot);
  // Returns the ticket.
  absl::StatusOr<uint32_t> Offer(const Source& source, GpuStream stream);
  void ReadReply();
  void OnReply(const DirectReply& reply);
  void End(uint32_t ticket);
  void FailSends();
  void Hold(std::vector<uint32_t> tickets);

  // direct_receive.cc
  void ReceiveNext();
  void OnOffer(const DirectOffer& offer);
  absl::Status Claim(const DirectOffer& offer);
  absl::Status Copy(const DirectOffer& offer, const Receive& receive);
  void OnCopied(uint32_t ticket);
  void FailReceives();

  const std::shared_ptr<tensorpipe::transport::Connection> offers_;
  const std::shared_ptr<tensorpipe::transport::Connection> replies_;

  std::optional<GpuHello> peer_;
  std::deque<Send> sends_;  // that are not offered to their end
  bool waits_for_slot_ = false;
  // Shared with those that look whether the peer is done.
  std::shared_ptr<DirectClaims> claims_;
  ExportedMemory memory_;
  ExportedEvents events_;
  std::map<uint32_t, Offered> offered_;  // by ticket

  std::deque<Receive> receives_;  // whose last copy is not enqueued
  bool is_reading_ = false;
  std::unique_ptr<DirectClaims> peer_claims_;
  DirectImports imports_;
  StreamWatch watch_;
  int num_copies_ = 0;  // under way
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_CHANNEL_H_
