// The context and a channel of cuda_host: host.h says what they promise.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_HOST_CHANNEL_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_HOST_CHANNEL_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/transport/cuda/gpu_context.h"
#include "agent/transport/cuda/host.h"
#include "agent/transport/cuda/registered_segment.h"
#include "agent/transport/cuda/staging.h"
#include "agent/transport/cuda/wire.h"
#include "tensorpipe/channel/channel.h"
#include "tensorpipe/channel/channel_impl_boilerplate.h"
#include "tensorpipe/transport/connection.h"

namespace reprise {

class HostChannel;

class HostContext final : public GpuContextImpl<HostContext, HostChannel> {
 public:
  static std::shared_ptr<HostContext> create(
      const GpuChannelEnvironment& environment,
      std::shared_ptr<tensorpipe::channel::Context> cpu, CudaHostSlots slots);

  HostContext(const GpuChannelEnvironment& environment,
              DeviceDescriptors descriptors,
              std::shared_ptr<tensorpipe::channel::Context> cpu,
              CudaHostSlots slots)
      : GpuContextImpl(environment, std::move(descriptors)),
        cpu_(std::move(cpu)),
        slots_(slots),
        send_slots_(driver(), static_cast<int>(slots.number),
                    slots.chunk_bytes),
        receive_slots_(driver(), static_cast<int>(slots.number),
                       slots.chunk_bytes) {}

  std::shared_ptr<tensorpipe::channel::Channel> createChannel(
      std::vector<std::shared_ptr<tensorpipe::transport::Connection>>
          connections,
      tensorpipe::channel::Endpoint endpoint);
  size_t numConnectionsNeeded() const override {
    return cpu_->numConnectionsNeeded() + 2;
  }
  bool canCommunicateWithRemote(const std::string& ours,
                                const std::string& theirs) const override {
    return cpu_->canCommunicateWithRemote(ours, theirs);
  }

  const CudaHostSlots& slots() const { return slots_; }
  PinnedSlots& send_slots() { return send_slots_; }
  PinnedSlots& receive_slots() { return receive_slots_; }

 protected:
  void handleErrorImpl() override { cpu_->close(); }
  void joinImpl() override {
    cpu_->join();
    GpuContextImpl::joinImpl();
  }
  void setIdImpl() override { cpu_->setId(id_ + ".cpu"); }

 private:
  const std::shared_ptr<tensorpipe::channel::Context> cpu_;
  const CudaHostSlots slots_;
  PinnedSlots send_slots_;
  PinnedSlots receive_slots_;
};

// Used in the context's loop.
class HostChannel final
    : public tensorpipe::channel::ChannelImplBoilerplate<HostContext,
                                                         HostChannel>,
      private StagedChannel {
 public:
  HostChannel(ConstructorToken token, std::shared_ptr<HostContext> context,
              std::string id, std::shared_ptr<tensorpipe::channel::Channel> cpu,
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
  // How chunks get to the peer.
  enum class Way { kUnknown, kAsked, kShared, kStreamed };

  const tensorpipe::Error& error() const override { return error_; }
  void Fail(const tensorpipe::Error& error) override { setError(error); }
  Done InLoop(std::function<void()> f) override {
    return callbackWrapper_([f = std::move(f)](HostChannel&) { f(); });
  }

  // The sending half.
  void OnHello(const GpuHello& hello);
  // Finds out which way it is, when somebody sends and the peer has said hello.
  void ChooseWay();
  void SetWay(Way way);
  void ReadReply();
  void OnReply(const HostReply& reply);
  void Offer(HostOffer::Kind kind, const StagedChunk& chunk);
  void TakeSendSlot(SlotPool::Taker taker) override;
  char* send_slot_at(int slot) override;
  void GiveSendSlot(int slot) override;
  void Announce(const StagedChunk& chunk) override;
  void Deliver(const StagedChunk& chunk, Done done) override;

  // The receiving half.
  void AwaitChunk(const StagedChunkPtr& chunk, std::function<void()> begun,
                  Done done) override;
  void OnOffer(const HostOffer& offer, const StagedChunkPtr& chunk,
               const std::function<void()>& begun, const Done& done);
  void Attach(const std::string& name);
  void TakeBytes(const StagedChunkPtr& chunk,
                 const std::function<void()>& begun, const Done& done);
  void ReleaseChunk(const StagedChunk& chunk) override;
  void Reply(HostReply::Kind kind, uint32_t slot);

  size_t segment_bytes() const { return slots_.number * slots_.chunk_bytes; }

  const std::shared_ptr<tensorpipe::channel::Channel> cpu_;
  const CudaHostSlots slots_;
  const std::shared_ptr<tensorpipe::transport::Connection> offers_;
  const std::shared_ptr<tensorpipe::transport::Connection> replies_;

  Way way_ = Way::kUnknown;
  std::optional<GpuHello> peer_;
  bool has_sent_ = false;
  // Ours, and who is told that a slot of it has been read.
  std::unique_ptr<RegisteredSegment> segment_;
  SlotPool segment_slots_;
  std::vector<Done> unread_;

  std::unique_ptr<RegisteredSegment> peer_segment_;
  bool has_asked_ = false;     // the peer, to take its segment
  std::vector<bool> is_read_;  // slots that are being read

  // They go before what they copy to and from.
  StagedSender sender_;
  StagedReceiver receiver_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_HOST_CHANNEL_H_
