#include "tests/gpu/pipe_end.h"

#include <sched.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/device/gpu_buffer.h"
#include "agent/runtime/runtime.h"
#include "agent/transport/cuda/environment.h"
#include "agent/transport/cuda/host.h"
#include "agent/transport/cuda/shared_memory.h"
#include "agent/transport/transports.h"
#include "agent/transport/uv/context.h"
#include "tests/gpu/gpu.h"

namespace reprise::gpu {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(1);
// To wake up takes time, which is not to be measured. What lasts longer is not
// changed by a nap.
constexpr absl::Duration kSpinFor = absl::Milliseconds(5);
constexpr absl::Duration kNap = absl::Microseconds(50);

absl::Status StatusOf(const tensorpipe::Error& error) {
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(error.what());
}

// That of a process whose peers are on other hosts.
class NoSharedMemory final : public SharedMemory {
 public:
  absl::StatusOr<std::unique_ptr<SharedSegment>> Create(size_t) override {
    return absl::UnimplementedError("no shared memory in this test");
  }
  absl::StatusOr<std::unique_ptr<SharedSegment>> Open(const std::string&,
                                                      size_t) override {
    return absl::UnimplementedError("no shared memory in this test");
  }
  std::string ProcessName() override {
    return RealSharedMemory().ProcessName();
  }
  bool IsAlive(const std::string& process_name) override {
    return RealSharedMemory().IsAlive(process_name);
  }
};

absl::StatusOr<std::shared_ptr<tensorpipe::channel::Context>> MakeRemoteHost(
    Devices& devices) {
  static NoSharedMemory* const no_shared_memory = new NoSharedMemory();
  TransportOptions options;
  options.transports = {"uv"};
  options.channels = {"mpt_uv"};
  options.bind_address = "127.0.0.1";
  absl::StatusOr<TransportSet> beneath = RealTransports().Make(options);
  if (!beneath.ok()) return beneath.status();
  absl::StatusOr<ProcessIdentity> process = ThisProcess();
  if (!process.ok()) return process.status();
  auto context = MakeCudaHostContext({.driver = devices.gpu_driver(),
                                      .runtime = devices.runtime(),
                                      .shared_memory = no_shared_memory,
                                      .process = *std::move(process)},
                                     beneath->channels[0].context);
  if (context->isViable()) return context;
  return absl::UnavailableError("cuda_host is not viable");
}

}  // namespace

std::string Way::ToString() const {
  return absl::StrCat(channel, is_remote ? " without shared memory" : "",
                      " over ", transport);
}

void Pending::Complete(absl::Status status) {
  status_ = std::move(status);
  is_done_.store(true, std::memory_order_release);
}

absl::Status Pending::Wait() {
  Runtime& runtime = RealRuntime();
  const absl::Time start = runtime.Now();
  while (!is_done()) {
    for (int i = 0; i < 100 && !is_done(); ++i) sched_yield();
    const absl::Time now = runtime.Now();
    if (now > start + kPatience && !is_done()) {
      return absl::DeadlineExceededError("nothing happens for a minute");
    }
    if (now > start + kSpinFor) runtime.SleepUntil(now + kNap);
  }
  return status_;
}

absl::StatusOr<std::unique_ptr<PipeContext>> PipeContext::Make(
    const Way& way, Devices& devices) {
  TransportOptions options;
  options.transports = {way.transport};
  options.channels = {way.channel};
  options.bind_address = "127.0.0.1";
  // This alone says why the channel does not work.
  absl::StatusOr<TransportSet> set = RealTransports().Make(options, &devices);
  if (!set.ok()) return set.status();
  // Peers without a channel for memory of CPUs are turned away.
  options.channels.push_back("basic");
  set = RealTransports().Make(options, &devices);
  if (!set.ok()) return set.status();
  if (way.is_remote) {
    auto remote = MakeRemoteHost(devices);
    if (!remote.ok()) return remote.status();
    // The checks of `Make` know only channels that it made.
    set->transports[0].context = MakeUvContext(Callers::kPipes);
    set->channels[0].context = *std::move(remote);
    set->channels[1].context = tensorpipe::channel::basic::create();
  }
  std::unique_ptr<PipeContext> made(new PipeContext());
  made->transport_ = way.transport;
  made->address_ =
      absl::StrCat(way.transport, "://", set->transports[0].address);
  for (TransportEntry& entry : set->transports) {
    made->context_->registerTransport(entry.priority, entry.name,
                                      std::move(entry.context));
  }
  for (ChannelEntry& entry : set->channels) {
    made->context_->registerChannel(entry.priority, entry.name,
                                    std::move(entry.context));
  }
  return made;
}

PipeContext::~PipeContext() { context_->join(); }

std::string PipeContext::Listen() {
  listener_ = context_->listen({address_});
  return listener_->url(transport_);
}

absl::StatusOr<std::shared_ptr<tensorpipe::Pipe>> PipeContext::Accept() {
  struct Accepted {
    Pending pending;
    std::shared_ptr<tensorpipe::Pipe> pipe;
  };
  const auto accepted = std::make_shared<Accepted>();
  listener_->accept([accepted](const tensorpipe::Error& error,
                               std::shared_ptr<tensorpipe::Pipe> pipe) {
    accepted->pipe = std::move(pipe);
    accepted->pending.Complete(StatusOf(error));
  });
  absl::Status status = accepted->pending.Wait();
  if (!status.ok()) return status;
  return std::move(accepted->pipe);
}

std::shared_ptr<tensorpipe::Pipe> PipeContext::Connect(const std::string& url) {
  return context_->connect(url);
}

std::shared_ptr<Pending> PipeEnd::Write(PipeMessage message) {
  auto pending = std::make_shared<Pending>();
  auto kept = std::make_shared<PipeMessage>(std::move(message));
  tensorpipe::Message to_write;
  // The text is known before the tensors have come, and comes with them again.
  to_write.metadata = kept->text;
  to_write.payloads.push_back({kept->text.data(), kept->text.size(), ""});
  for (const Piece& piece : kept->tensors) {
    const GpuStream stream = kept->streams.On(FirstGpu().index);
    auto* const data = static_cast<char*>(piece.storage->data());
    piece.storage->RecordUse(stream);
    tensorpipe::Message::Tensor tensor;
    tensor.buffer =
        GpuBuffer{data == nullptr ? nullptr : data + piece.offset, stream};
    tensor.length = piece.num_bytes;
    tensor.targetDevice =
        tensorpipe::Device(tensorpipe::kCudaDeviceType, FirstGpu().index);
    to_write.tensors.push_back(std::move(tensor));
  }
  pipe_->write(std::move(to_write),
               [pending, kept](const tensorpipe::Error& error) {
                 pending->Complete(StatusOf(error));
               });
  return pending;
}

absl::StatusOr<std::shared_ptr<PipeEnd::Arriving>> PipeEnd::BeginRead(
    const std::shared_ptr<Storage>& into) {
  struct Described {
    Pending pending;
    tensorpipe::Descriptor descriptor;
  };
  const auto described = std::make_shared<Described>();
  pipe_->readDescriptor([described](const tensorpipe::Error& error,
                                    tensorpipe::Descriptor descriptor) {
    described->descriptor = std::move(descriptor);
    described->pending.Complete(StatusOf(error));
  });
  absl::Status status = described->pending.Wait();
  if (!status.ok()) return status;
  const tensorpipe::Descriptor& descriptor = described->descriptor;
  if (descriptor.payloads.size() != 1 ||
      descriptor.payloads[0].length != descriptor.metadata.size()) {
    return absl::DataLossError("a message has not one payload of its text");
  }
  const auto streams = devices_.gpu_streams()->Next({FirstGpu().index});
  if (!streams.ok()) return streams.status();
  auto arriving = std::make_shared<Arriving>();
  PipeMessage& message = arriving->message;
  message.streams = *streams;
  message.text = descriptor.metadata;
  tensorpipe::Allocation allocation;
  allocation.payloads.push_back({message.text.data()});
  for (const auto& tensor : descriptor.tensors) {
    absl::StatusOr<std::shared_ptr<Storage>> storage = into;
    if (into == nullptr) {
      storage = devices_.Allocate(FirstGpu(), tensor.length, *streams);
    } else if (into->num_bytes() < tensor.length) {
      storage = absl::ResourceExhaustedError("a tensor is too large");
    }
    if (!storage.ok()) return storage.status();
    auto buffer = devices_.ToBuffer(**storage, *streams);
    if (!buffer.ok()) return buffer.status();
    allocation.tensors.push_back({*std::move(buffer)});
    message.tensors.push_back({*std::move(storage), 0, tensor.length});
  }
  pipe_->read(std::move(allocation),
              [arriving](const tensorpipe::Error& error) {
                arriving->read.Complete(StatusOf(error));
              });
  return arriving;
}

absl::StatusOr<PipeMessage> PipeEnd::Read(
    const std::shared_ptr<Storage>& into) {
  absl::StatusOr<std::shared_ptr<Arriving>> arriving = BeginRead(into);
  if (!arriving.ok()) return arriving.status();
  absl::Status status = (*arriving)->read.Wait();
  if (!status.ok()) return status;
  return std::move((*arriving)->message);
}

}  // namespace reprise::gpu
