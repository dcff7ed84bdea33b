#include "agent/transport/cuda/xth.h"

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/planted.h"
#include "agent/transport/cuda/frames.h"
#include "agent/transport/cuda/gpu_context.h"
#include "agent/transport/cuda/wire.h"
#include "agent/transport/cuda/xth_offers.h"
#include "tensorpipe/channel/channel_impl_boilerplate.h"
#include "tensorpipe/channel/context_boilerplate.h"

namespace reprise {
namespace {

using tensorpipe::Error;
using tensorpipe::channel::TRecvCallback;
using tensorpipe::channel::TSendCallback;
using ConnectionPtr = std::shared_ptr<tensorpipe::transport::Connection>;

class XthChannel;

class XthContext final : public GpuContextImpl<XthContext, XthChannel> {
 public:
  static std::shared_ptr<XthContext> create(
      const GpuChannelEnvironment& environment);

  XthContext(const GpuChannelEnvironment& environment,
             DeviceDescriptors descriptors)
      : GpuContextImpl(environment, std::move(descriptors)),
        offers_(environment.xth_offers != nullptr
                    ? environment.xth_offers
                    : XthOffers::Of(driver(), *environment.runtime)) {}

  std::shared_ptr<tensorpipe::channel::Channel> createChannel(
      std::vector<ConnectionPtr> connections, tensorpipe::channel::Endpoint);
  size_t numConnectionsNeeded() const override { return 2; }

  XthOffers& offers() { return *offers_; }

 private:
  const std::shared_ptr<XthOffers> offers_;
};

class XthChannel final
    : public tensorpipe::channel::ChannelImplBoilerplate<XthContext,
                                                         XthChannel> {
 public:
  XthChannel(ConstructorToken token, std::shared_ptr<XthContext> context,
             std::string id, ConnectionPtr descriptors,
             ConnectionPtr completions)
      : ChannelImplBoilerplate(token, std::move(context), std::move(id)),
        descriptors_(std::move(descriptors)),
        completions_(std::move(completions)) {}

 protected:
  void initImplFromLoop() override { context_->enroll(*this); }
  void sendImplFromLoop(uint64_t number, tensorpipe::Buffer buffer,
                        size_t length, TSendCallback done) override;
  void recvImplFromLoop(uint64_t number, tensorpipe::Buffer buffer,
                        size_t length, TRecvCallback done) override;
  void handleErrorImpl() override;

 private:
  struct Send {
    XthOffers::Offer offer;
    TSendCallback done;
  };
  struct Receive {
    GpuBuffer into;
    size_t length;
    TRecvCallback done;
  };

  absl::Status StartSend(const GpuBuffer& buffer, XthOffers::Offer& offer);
  void OnCompletion();
  void OnDescriptor(const XthDescriptor& descriptor);
  absl::Status Copy(const XthOffers::Offer& offer, const Receive& receive);

  const ConnectionPtr descriptors_;
  const ConnectionPtr completions_;
  std::deque<Send> sends_;        // in their order
  std::deque<Receive> receives_;  // in their order
};

std::shared_ptr<XthContext> XthContext::create(
    const GpuChannelEnvironment& environment) {
  if (!HaveUnifiedAddressing(*environment.driver)) return nullptr;
  const ProcessIdentity& process = environment.process;
  return std::make_shared<XthContext>(
      environment,
      DescribeGpus(*environment.driver,
                   absl::StrCat(process.boot_id, "_", process.pid_namespace,
                                "_", process.pid)));
}

std::shared_ptr<tensorpipe::channel::Channel> XthContext::createChannel(
    std::vector<ConnectionPtr> connections, tensorpipe::channel::Endpoint) {
  return createChannelInternal(std::move(connections[0]),
                               std::move(connections[1]));
}

void XthChannel::sendImplFromLoop(uint64_t, tensorpipe::Buffer buffer,
                                  size_t length, TSendCallback done) {
  if (length == 0) return done(Error::kSuccess);
  const auto gpu = GpuBufferOf(context_->driver(), buffer);
  Send send;
  if (!gpu.has_value()) {
    setError(GpuErrorOf("a tensor to send is in no memory of a GPU"));
  } else {
    setError(GpuErrorOf(StartSend(*gpu, send.offer)));
  }
  if (error_) return done(error_);
  context_->offers().Add(send.offer, length);
  send.done = std::move(done);
  XthDescriptor descriptor;
  descriptor.start_event = send.offer.start.handle;
  descriptor.source = reinterpret_cast<uint64_t>(send.offer.source);
  descriptor.device = send.offer.stream.device;
  descriptor.stream = send.offer.stream.handle;
  sends_.push_back(std::move(send));
  WriteObject(*descriptors_, descriptor, callbackWrapper_([](XthChannel&) {}));
  ReadEmpty(*completions_, callbackWrapper_([](XthChannel& channel) {
    channel.OnCompletion();
  }));
}

absl::Status XthChannel::StartSend(const GpuBuffer& buffer,
                                   XthOffers::Offer& offer) {
  GpuDriver& driver = context_->driver();
  absl::StatusOr<GpuEvent> event =
      driver.CreateEvent(buffer.stream.device, /*is_shared=*/false);
  if (!event.ok()) return event.status();
  absl::Status status = driver.Record(*event, buffer.stream);
  if (!status.ok()) driver.DestroyEvent(*event);
  offer = {*event, buffer.ptr, buffer.stream};
  return status;
}

void XthChannel::OnCompletion() {
  if (error_) return;
  const Send send = std::move(sends_.front());
  sends_.pop_front();
  context_->offers().Withdraw(send.offer);
  context_->driver().DestroyEvent(send.offer.start);
  send.done(Error::kSuccess);
}

void XthChannel::recvImplFromLoop(uint64_t, tensorpipe::Buffer buffer,
                                  size_t length, TRecvCallback done) {
  if (length == 0) return done(Error::kSuccess);
  const auto gpu = GpuBufferOf(context_->driver(), buffer);
  if (!gpu.has_value()) {
    setError(GpuErrorOf("a tensor to receive is in no memory of a GPU"));
    return done(error_);
  }
  receives_.push_back({*gpu, length, std::move(done)});
  ReadObject<XthDescriptor>(
      *descriptors_, callbackWrapper_([](XthChannel& channel,
                                         const XthDescriptor& descriptor) {
        channel.OnDescriptor(descriptor);
      }));
}

void XthChannel::OnDescriptor(const XthDescriptor& descriptor) {
  if (error_) return;
  XthOffers::Offer offer;
  offer.start = {descriptor.device,
                 static_cast<uintptr_t>(descriptor.start_event)};
  offer.source = reinterpret_cast<const void*>(descriptor.source);
  offer.stream = {descriptor.device, static_cast<uintptr_t>(descriptor.stream)};
  const Receive& front = receives_.front();
  const absl::Status status = context_->offers().Use(
      offer, front.length, [&] { return Copy(offer, front); });
  if (!status.ok()) return setError(GpuErrorOf(status));
  const Receive receive = std::move(receives_.front());
  receives_.pop_front();
  receive.done(Error::kSuccess);
  if (error_) return;
  completions_->write(nullptr, 0, callbackWrapper_([](XthChannel&) {}));
}

absl::Status XthChannel::Copy(const XthOffers::Offer& offer,
                              const Receive& receive) {
  GpuDriver& driver = context_->driver();
  const GpuStream stream = receive.into.stream;
  if (!REPRISE_PLANTED(cuda_xth_no_wait)) {
    absl::Status status = driver.Wait(stream, offer.start);
    if (!status.ok()) return status;
  }
  absl::StatusOr<GpuEvent> copied =
      driver.CreateEvent(stream.device, /*is_shared=*/false);
  if (!copied.ok()) return copied.status();
  absl::Status status =
      driver.Copy(receive.into.ptr, offer.source, receive.length, stream);
  if (status.ok()) {
    status = driver.Record(*copied, stream);
    if (status.ok()) status = driver.Wait(offer.stream, *copied);
    // The sender's stream cannot wait, so we do: it may let go of its memory as
    // soon as it hears of the error.
    if (!status.ok()) driver.Synchronize(stream).IgnoreError();
  }
  driver.DestroyEvent(*copied);
  return status;
}

void XthChannel::handleErrorImpl() {
  descriptors_->close();
  completions_->close();
  const auto sends = std::exchange(sends_, {});
  const auto receives = std::exchange(receives_, {});
  for (const Send& send : sends) context_->offers().Withdraw(send.offer);
  for (const Send& send : sends) {
    context_->driver().DestroyEvent(send.offer.start);
    send.done(error_);
  }
  for (const Receive& receive : receives) receive.done(error_);
  context_->unenroll(*this);
}

}  // namespace

std::shared_ptr<tensorpipe::channel::Context> MakeCudaXthContext(
    const GpuChannelEnvironment& environment) {
  return std::make_shared<
      tensorpipe::channel::ContextBoilerplate<XthContext, XthChannel>>(
      environment);
}

}  // namespace reprise
