// The receiving half of the channel cma (channel.h).

#include <string_view>
#include <utility>

#include "agent/transport/cma/channel.h"
#include "agent/transport/cma/error.h"
#include "agent/transport/uv/decode.h"
#include "tensorpipe/common/cpu_buffer.h"

namespace reprise {

using tensorpipe::Error;

void CmaChannel::recvImplFromLoop(uint64_t /*number*/,
                                  tensorpipe::Buffer buffer, size_t length,
                                  tensorpipe::channel::TRecvCallback done) {
  if (length == 0) return done(Error::kSuccess);
  auto receive = std::make_shared<Receive>();
  receive->into = buffer.unwrap<tensorpipe::CpuBuffer>().ptr;
  receive->length = length;
  receive->done = std::move(done);
  receive->value = secret_ + ++num_received_;
  if (receive->value == 0) receive->value = 1;
  receives_.push_back(receive);
  ReadDescriptor(receive);
}

void CmaChannel::ReadDescriptor(const std::shared_ptr<Receive>& receive) {
  if (is_own()) {
    const auto descriptor = std::make_shared<OwnDescriptor>();
    descriptors_->read(
        descriptor.get(), sizeof(*descriptor),
        callbackWrapper_(
            [receive, descriptor](CmaChannel& channel, const void*, size_t) {
              RemoteCopy copy;
              copy.pid = static_cast<pid_t>(descriptor->pid);
              copy.from = descriptor->address;
              copy.word = descriptor->word;
              copy.value = receive->value;
              // A descriptor without a validity word would pass for one of
              // TensorPipe's own.
              if (copy.word == 0) {
                channel.setError(CmaErrorOf("the peer's descriptor is bad"));
              }
              channel.Copy(receive, std::move(copy));
            }));
    return;
  }
  auto on_descriptor = callbackWrapper_(
      [receive](CmaChannel& channel, const StockDescriptor& descriptor) {
        RemoteCopy copy;
        copy.pid = static_cast<pid_t>(descriptor.pid);
        copy.from = descriptor.ptr;
        copy.liveness = channel.liveness_;
        channel.Copy(receive, std::move(copy));
      });
  // The frame is decoded here, within its bounds, because the connection's own
  // reading of objects does not check them.
  descriptors_->read([on_descriptor = std::move(on_descriptor)](
                         const Error& error, const void* frame,
                         size_t size) mutable {
    StockDescriptor descriptor;
    if (error || Decode(std::string_view(static_cast<const char*>(frame), size),
                        descriptor)) {
      on_descriptor(error, descriptor);
    } else {
      on_descriptor(CmaErrorOf("the peer's descriptor is bad"), descriptor);
    }
  });
}

void CmaChannel::Copy(const std::shared_ptr<Receive>& receive,
                      RemoteCopy copy) {
  if (error_) return;  // `receive` has failed
  copy.memory = &context_->memory();
  copy.into = receive->into;
  copy.length = receive->length;
  copy.stop = stop_;
  copy.done = callbackWrapper_(
      [receive](CmaChannel& channel) { channel.OnCopied(*receive); });
  receive->is_copying = true;
  if (context_->copier().Run(
          [copy = std::move(copy)]() mutable { return copy.Step(); })) {
    return;
  }
  receive->is_copying = false;
  setError(CmaErrorOf("its context has ended"));
}

void CmaChannel::OnCopied(Receive& receive) {
  receive.is_copying = false;
  receive.is_copied = true;
  if (error_) {
    // `FailReceives` has left this receive to us, as it was being copied.
    if (receive.done != nullptr) {
      std::exchange(receive.done, nullptr)(error_);
    }
    return;
  }
  while (!receives_.empty() && receives_.front()->is_copied && !error_) {
    const std::shared_ptr<Receive> front = std::move(receives_.front());
    receives_.pop_front();
    completions_->write(nullptr, 0, callbackWrapper_([](CmaChannel&) {}));
    std::exchange(front->done, nullptr)(Error::kSuccess);
  }
}

void CmaChannel::FailReceives() {
  for (const auto& receive : std::exchange(receives_, {})) {
    // The memory of one that is being copied is written to until `OnCopied`.
    if (!receive->is_copying) std::exchange(receive->done, nullptr)(error_);
  }
}

}  // namespace reprise
