#include "agent/message_reader.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

void ReadBody(std::shared_ptr<tensorpipe::Pipe> pipe,
              std::shared_ptr<MessageSink> sink, IncomingMessage message) {
  tensorpipe::Pipe& reading = *pipe;
  // The closure must be copyable.
  auto shared = std::make_shared<IncomingMessage>(std::move(message));
  tensorpipe::Allocation allocation = shared->allocation();
  reading.read(std::move(allocation),
               [pipe = std::move(pipe), sink = std::move(sink),
                shared = std::move(shared)](const tensorpipe::Error& error) {
                 if (error) {
                   sink->OnReadFailed(Describe(error));
                   return;
                 }
                 // The next message may arrive while this one is handled.
                 ReadMessages(pipe, sink);
                 sink->OnMessage(std::move(*shared));
               });
}

}  // namespace

void ReadMessages(std::shared_ptr<tensorpipe::Pipe> pipe,
                  std::shared_ptr<MessageSink> sink) {
  tensorpipe::Pipe& reading = *pipe;
  reading.readDescriptor([pipe = std::move(pipe), sink = std::move(sink)](
                             const tensorpipe::Error& error,
                             const tensorpipe::Descriptor& descriptor) {
    if (error) {
      sink->OnReadFailed(Describe(error));
      return;
    }
    absl::StatusOr<IncomingMessage> message =
        IncomingMessage::Allocate(descriptor);
    if (!message.ok()) {
      sink->OnReadFailed(
          absl::StrCat("refused a message: ", message.status().message()));
      return;
    }
    sink->OnMessageBegins();
    ReadBody(pipe, sink, *std::move(message));
  });
}

std::string Describe(const tensorpipe::Error& error) {
  const auto cause = error.castToType<tensorpipe::BaseError>();
  return cause != nullptr ? cause->what() : "unknown error";
}

}  // namespace reprise
