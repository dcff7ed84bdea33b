// The context and a channel of cuda_ipc: ipc.h says what they promise.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_IPC_CHANNEL_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_IPC_CHANNEL_H_

#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/transport/cuda/gpu_context.h"
#include "agent/transport/cuda/ipc_inbox.h"
#include "agent/transport/cuda/ipc_outbox.h"
#include "agent/transport/cuda/stream_watch.h"
#include "agent/transport/cuda/wire.h"
#include "agent/transport/peer_liveness.h"
#include "tensorpipe/channel/channel_impl_boilerplate.h"
#include "tensorpipe/transport/connection.h"

namespace reprise {

class IpcChannel;

class IpcContext final : public GpuContextImpl<IpcContext, IpcChannel> {
 public:
  static std::shared_ptr<IpcContext> create(
      const GpuChannelEnvironment& environment);
  IpcContext(const GpuChannelEnvironment& environment,
             DeviceDescriptors descriptors)
      : GpuContextImpl(environment, std::move(descriptors)),
        outboxes_(this->environment(), callbacks()) {}

  std::shared_ptr<tensorpipe::channel::Channel> createChannel(
      std::vector<std::shared_ptr<tensorpipe::transport::Connection>>
          connections,
      tensorpipe::channel::Endpoint endpoint);
  size_t numConnectionsNeeded() const override { return 2; }
  bool canCommunicateWithRemote(const std::string& ours,
                                const std::string& theirs) const override;

  IpcOutboxes& outboxes() { return outboxes_; }

 protected:
  // The channels have been closed.
  void handleErrorImpl() override { outboxes_.Clear(); }

 private:
  IpcOutboxes outboxes_;
};

// Used in the context's loop.
class IpcChannel final
    : public tensorpipe::channel::ChannelImplBoilerplate<IpcContext,
                                                         IpcChannel> {
 public:
  IpcChannel(ConstructorToken token, std::shared_ptr<IpcContext> context,
             std::string id,
             std::shared_ptr<tensorpipe::transport::Connection> descriptors,
             std::shared_ptr<tensorpipe::transport::Connection> replies);

 protected:
  void initImplFromLoop() override { context_->enroll(*this); }
  void sendImplFromLoop(uint64_t number, tensorpipe::Buffer buffer,
                        size_t length,
                        tensorpipe::channel::TSendCallback done) override;
  void recvImplFromLoop(uint64_t number, tensorpipe::Buffer buffer,
                        size_t length,
                        tensorpipe::channel::TRecvCallback done) override;
  void handleErrorImpl() override;

 private:
  // A tensor, in chunks of a slot each.
  template <typename Done>
  struct Tensor {
    GpuBuffer buffer;
    size_t length;
    Done done;
    size_t position = 0;  // of the next chunk

    char* data() const { return static_cast<char*>(buffer.ptr) + position; }
    size_t chunk_bytes() const {
      return std::min(length - position, IpcOutbox::kSlotBytes);
    }
  };
  using Send = Tensor<tensorpipe::channel::TSendCallback>;
  using Receive = Tensor<tensorpipe::channel::TRecvCallback>;
  struct Slot {
    std::shared_ptr<IpcOutbox> outbox;
    int number;
  };

  void SendNext();
  void OnSlot(const Slot& slot);
  absl::Status Fill(const Slot& slot, const Send& send);
  void OnReply();

  void ReceiveNext();
  void OnDescriptor(const IpcDescriptor& descriptor);
  absl::Status Read(const IpcDescriptor& descriptor, const Receive& receive);
  // Our end of what `Read` began.
  void OnRead();
  void FinishError();

  const std::shared_ptr<tensorpipe::transport::Connection> descriptors_;
  const std::shared_ptr<tensorpipe::transport::Connection> replies_;
  const std::shared_ptr<PeerLiveness> liveness_;  // may be null

  std::deque<Send> sends_;  // whose last chunk is not offered
  bool waits_for_slot_ = false;
  std::map<int, std::shared_ptr<IpcOutbox>> outboxes_;  // by device
  std::deque<Slot> offered_;

  std::deque<Receive> receives_;  // whose last chunk is not enqueued
  bool is_reading_ = false;
  IpcInboxes inboxes_;
  StreamWatch watch_;
  int num_copies_ = 0;  // from the inboxes, under way
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_IPC_CHANNEL_H_
