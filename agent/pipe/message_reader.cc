#include "agent/pipe/message_reader.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/planted.h"

namespace reprise {
namespace {

void ReadBody(std::shared_ptr<tensorpipe::Pipe> pipe,
              std::shared_ptr<MessageSink> sink, const WireLimits& limits,
              IncomingMessage message,
              std::shared_ptr<CpuAllocator> allocator) {
  tensorpipe::Pipe& reading = *pipe;
  // The closure must be copyable.
  auto shared = std::make_shared<IncomingMessage>(std::move(message));
  tensorpipe::Allocation allocation = shared->allocation();
  reading.read(std::move(allocation),
               [pipe = std::move(pipe), sink = std::move(sink), &limits,
                shared = std::move(shared), allocator = std::move(allocator)](
                   const tensorpipe::Error& error) mutable {
                 allocator.reset();
                 if (error) {
                   sink->OnReadFailed(Describe(error));
                   return;
                 }
                 // The next message may arrive while this one is handled.
                 if (sink->ReadsOn()) ReadMessages(pipe, sink, limits);
                 sink->OnMessage(std::move(*shared));
               });
}

}  // namespace

void ReadMessages(std::shared_ptr<tensorpipe::Pipe> pipe,
                  std::shared_ptr<MessageSink> sink, const WireLimits& limits) {
  tensorpipe::Pipe& reading = *pipe;
  reading.readDescriptor([pipe = std::move(pipe), sink = std::move(sink),
                          &limits](const tensorpipe::Error& error,
                                   const tensorpipe::Descriptor& descriptor) {
    if (error) {
      sink->OnReadFailed(Describe(error));
      return;
    }
    std::shared_ptr<CpuAllocator> allocator =
        sink->AllocatorFor(descriptor.metadata);
    WireLimits of_message = limits;
    if (allocator != nullptr) of_message.allocator = allocator.get();
    absl::StatusOr<IncomingMessage> message = IncomingMessage::Allocate(
        descriptor, of_message,
        [&sink = *sink](const tensorpipe::Device& theirs,
                        const tensorpipe::Device& ours) {
          return sink.HasChannel(theirs, ours);
        });
    if (!message.ok()) {
      allocator.reset();
      if (REPRISE_PLANTED(garbled_message_ignored)) return;
      sink->OnReadFailed(
          absl::StrCat("refused a message: ", message.status().message()));
      return;
    }
    sink->OnMessageBegins();
    ReadBody(pipe, sink, limits, *std::move(message), std::move(allocator));
  });
}

std::string Describe(const tensorpipe::Error& error) {
  const auto cause = error.castToType<tensorpipe::BaseError>();
  if (cause == nullptr) return "unknown error";
  std::string text = cause->what();
  // TensorPipe's transports have error types of their own for the same causes.
  const std::string lower = absl::AsciiStrToLower(text);
  const auto says = [&lower](const char* words) {
    return absl::StrContains(lower, words);
  };
  if (says("refused")) return absl::StrCat("refused: ", text);
  if (says("reset") || says("broken pipe")) {
    return absl::StrCat("reset: ", text);
  }
  if (says("eof") || says("end of file") || says("short read")) {
    return absl::StrCat("closed by the peer: ", text);
  }
  return text;
}

}  // namespace reprise
