#include "agent/transport/cuda/basic.h"

#include <string>
#include <utility>
#include <vector>

#include "agent/transport/cuda/frames.h"
#include "agent/transport/cuda/gpu_context.h"
#include "agent/transport/cuda/staging.h"
#include "agent/transport/cuda/wire.h"
#include "tensorpipe/channel/channel.h"
#include "tensorpipe/channel/channel_impl_boilerplate.h"
#include "tensorpipe/channel/context_boilerplate.h"
#include "tensorpipe/common/cpu_buffer.h"

namespace reprise {
namespace {

using tensorpipe::CpuBuffer;
using tensorpipe::Error;
using tensorpipe::channel::Endpoint;
using tensorpipe::channel::TRecvCallback;
using tensorpipe::channel::TSendCallback;
using ConnectionPtr = std::shared_ptr<tensorpipe::transport::Connection>;
using ChannelPtr = std::shared_ptr<tensorpipe::channel::Channel>;
using ContextPtr = std::shared_ptr<tensorpipe::channel::Context>;

constexpr size_t kChunkBytes = size_t{1} << 20;
constexpr int kNumSlots = 16;

class BasicChannel;

class BasicContext final : public GpuContextImpl<BasicContext, BasicChannel> {
 public:
  static std::shared_ptr<BasicContext> create(
      const GpuChannelEnvironment& environment, ContextPtr cpu);

  BasicContext(const GpuChannelEnvironment& environment,
               DeviceDescriptors descriptors, ContextPtr cpu)
      : GpuContextImpl(environment, std::move(descriptors)),
        cpu_(std::move(cpu)),
        send_slots_(driver(), kNumSlots, kChunkBytes),
        receive_slots_(driver(), kNumSlots, kChunkBytes) {}

  ChannelPtr createChannel(std::vector<ConnectionPtr> connections,
                           Endpoint endpoint);
  size_t numConnectionsNeeded() const override {
    return 1 + cpu_->numConnectionsNeeded();
  }
  bool canCommunicateWithRemote(const std::string& ours,
                                const std::string& theirs) const override;

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
  const ContextPtr cpu_;
  PinnedSlots send_slots_;
  PinnedSlots receive_slots_;
};

class BasicChannel final
    : public tensorpipe::channel::ChannelImplBoilerplate<BasicContext,
                                                         BasicChannel>,
      private StagedChannel {
 public:
  BasicChannel(ConstructorToken token, std::shared_ptr<BasicContext> context,
               std::string id, ChannelPtr cpu, ConnectionPtr control)
      : ChannelImplBoilerplate(token, std::move(context), std::move(id)),
        cpu_(std::move(cpu)),
        control_(std::move(control)),
        sender_(*this, context_->driver(), context_->callbacks(), kChunkBytes),
        receiver_(*this, context_->driver(), context_->callbacks(),
                  kChunkBytes) {}

 protected:
  void initImplFromLoop() override { context_->enroll(*this); }
  void sendImplFromLoop(uint64_t, tensorpipe::Buffer buffer, size_t length,
                        TSendCallback done) override {
    if (length == 0) return done(Error::kSuccess);
    const auto memory = MemoryOf(buffer);
    if (!memory.has_value()) return done(error_);
    sender_.Send(*memory, length, std::move(done));
  }
  void recvImplFromLoop(uint64_t, tensorpipe::Buffer buffer, size_t length,
                        TRecvCallback done) override {
    if (length == 0) return done(Error::kSuccess);
    const auto memory = MemoryOf(buffer);
    if (!memory.has_value()) return done(error_);
    receiver_.Receive(*memory, length, std::move(done));
  }
  void handleErrorImpl() override {
    cpu_->close();
    control_->close();
    sender_.OnError();
    receiver_.OnError();
    context_->unenroll(*this);
  }

 private:
  // Fails the channel if it is neither a CPU's nor a GPU's.
  std::optional<StagedMemory> MemoryOf(const tensorpipe::Buffer& buffer);

  const Error& error() const override { return error_; }
  void Fail(const Error& error) override { setError(error); }
  Done InLoop(std::function<void()> f) override {
    return callbackWrapper_([f = std::move(f)](BasicChannel&) { f(); });
  }
  void TakeSendSlot(SlotPool::Taker taker) override {
    PinnedSlots& pinned = context_->send_slots();
    if (absl::Status made = pinned.Make(); !made.ok()) {
      return setError(GpuErrorOf(made));
    }
    pinned.slots().Take([self = shared_from_this(),
                         taker = std::move(taker)](int slot) { taker(slot); });
  }
  char* send_slot_at(int slot) override {
    return context_->send_slots().At(slot);
  }
  void GiveSendSlot(int slot) override {
    context_->send_slots().slots().Give(slot);
  }
  void Announce(const StagedChunk&) override {
    control_->write(nullptr, 0, callbackWrapper_([](BasicChannel&) {}));
  }
  void Deliver(const StagedChunk& chunk, Done done) override {
    cpu_->send(CpuBuffer{chunk.data}, chunk.num_bytes, std::move(done));
  }
  void AwaitChunk(const StagedChunkPtr& chunk, std::function<void()> begun,
                  Done done) override;
  void TakeBytes(const StagedChunkPtr& chunk,
                 const std::function<void()>& begun, Done done);
  void ReleaseChunk(const StagedChunk& chunk) override {
    context_->receive_slots().slots().Give(chunk.slot);
  }

  const ChannelPtr cpu_;
  const ConnectionPtr control_;
  StagedSender sender_;
  StagedReceiver receiver_;
};

std::shared_ptr<BasicContext> BasicContext::create(
    const GpuChannelEnvironment& environment, ContextPtr cpu) {
  if (cpu == nullptr || !cpu->isViable() ||
      environment.driver->device_count() == 0) {
    return nullptr;
  }
  const auto& of_cpu = cpu->deviceDescriptors();
  const tensorpipe::Device host(tensorpipe::kCpuDeviceType, 0);
  const auto known = of_cpu.find(host);
  if (known == of_cpu.end()) return nullptr;
  BasicDeviceDescriptor descriptor;
  descriptor.device_type = tensorpipe::kCudaDeviceType;
  descriptor.descriptor = known->second;
  DeviceDescriptors descriptors =
      DescribeGpus(*environment.driver, EncodeObject(descriptor));
  descriptor.device_type = tensorpipe::kCpuDeviceType;
  descriptors[host] = EncodeObject(descriptor);
  return std::make_shared<BasicContext>(environment, std::move(descriptors),
                                        std::move(cpu));
}

bool BasicContext::canCommunicateWithRemote(const std::string& ours,
                                            const std::string& theirs) const {
  BasicDeviceDescriptor here;
  BasicDeviceDescriptor there;
  return DecodeObject(ours, here) && DecodeObject(theirs, there) &&
         !(here.device_type == tensorpipe::kCpuDeviceType &&
           there.device_type == tensorpipe::kCpuDeviceType) &&
         here.descriptor == there.descriptor;
}

ChannelPtr BasicContext::createChannel(std::vector<ConnectionPtr> connections,
                                       Endpoint endpoint) {
  ConnectionPtr control = std::move(connections.back());
  connections.pop_back();
  return createChannelInternal(
      cpu_->createChannel(std::move(connections), endpoint),
      std::move(control));
}

std::optional<StagedMemory> BasicChannel::MemoryOf(
    const tensorpipe::Buffer& buffer) {
  if (buffer.device().type == tensorpipe::kCpuDeviceType) {
    return StagedMemory{
        false, {}, static_cast<char*>(buffer.unwrap<CpuBuffer>().ptr)};
  }
  if (const auto gpu = GpuBufferOf(context_->driver(), buffer)) {
    return StagedMemory{true, gpu->stream, static_cast<char*>(gpu->ptr)};
  }
  setError(GpuErrorOf("a tensor is in no memory of a CPU or a GPU"));
  return std::nullopt;
}

void BasicChannel::AwaitChunk(const StagedChunkPtr& chunk,
                              std::function<void()> begun, Done done) {
  // A receiver that waits for its peer holds no slot.
  ReadEmpty(*control_,
            callbackWrapper_([chunk, begun = std::move(begun),
                              done = std::move(done)](BasicChannel& channel) {
              channel.TakeBytes(chunk, begun, done);
            }));
}

void BasicChannel::TakeBytes(const StagedChunkPtr& chunk,
                             const std::function<void()>& begun, Done done) {
  if (error_) return done(error_);
  if (!chunk->tensor->memory.is_gpu) {
    chunk->data = chunk->tensor_data();
    cpu_->recv(CpuBuffer{chunk->data}, chunk->num_bytes, std::move(done));
    return begun();
  }
  PinnedSlots& pinned = context_->receive_slots();
  if (absl::Status made = pinned.Make(); !made.ok()) {
    return done(GpuErrorOf(made));
  }
  pinned.slots().Take([self = shared_from_this(), chunk, begun,
                       done = std::move(done)](int slot) {
    chunk->slot = slot;
    chunk->data = self->context_->receive_slots().At(slot);
    if (self->error_) return done(self->error_);
    self->cpu_->recv(CpuBuffer{chunk->data}, chunk->num_bytes, done);
    begun();
  });
}

}  // namespace

ContextPtr MakeCudaBasicContext(const GpuChannelEnvironment& environment,
                                ContextPtr cpu) {
  return std::make_shared<
      tensorpipe::channel::ContextBoilerplate<BasicContext, BasicChannel>>(
      environment, std::move(cpu));
}

}  // namespace reprise
