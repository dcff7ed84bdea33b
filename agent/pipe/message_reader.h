// Reads the messages of a pipe, one after another.

#ifndef REPRISE_AGENT_PIPE_MESSAGE_READER_H_
#define REPRISE_AGENT_PIPE_MESSAGE_READER_H_

#include <memory>
#include <string>
#include <string_view>

#include "agent/device/caching_allocator.h"
#include "agent/wire/message_codec.h"
#include "tensorpipe/common/device.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/core/pipe.h"

namespace reprise {

// Called on a thread of TensorPipe, on a thread that is just using its context,
// or inline; never two calls at a time. Must not block or throw.
class MessageSink {
 public:
  virtual ~MessageSink() = default;
  // A message begins to arrive; `OnMessage` or `OnReadFailed` follows.
  virtual void OnMessageBegins() = 0;
  // Where the tensors on CPUs of the message that begins go, by its metadata;
  // asked before `OnMessageBegins`. Null: where the limits say. It is kept
  // until they have arrived or never will, and let go before `OnMessage` and
  // `OnReadFailed`.
  virtual std::shared_ptr<CpuAllocator> AllocatorFor(
      std::string_view /*metadata*/) {
    return nullptr;
  }
  // Whether the pipe has a channel for tensors from the peer's device to ours,
  // one of which is no CPU. Messages with others are refused.
  virtual bool HasChannel(const tensorpipe::Device& /*theirs*/,
                          const tensorpipe::Device& /*ours*/) {
    return false;
  }
  // False: the next message is not read until the sink calls `ReadMessages`
  // again. Asked once for each message that has arrived, before `OnMessage`.
  virtual bool ReadsOn() { return true; }
  virtual void OnMessage(IncomingMessage message) = 0;
  // The last call. The pipe must then be closed.
  virtual void OnReadFailed(const std::string& cause) = 0;
};

// Reads until the pipe fails, or until something arrives that is not a message
// of ours. The pipe's callbacks keep both alive: close the pipe in the end.
// `limits` must outlive these callbacks. A message that is beyond them arrives
// as well, and cannot be decoded.
void ReadMessages(std::shared_ptr<tensorpipe::Pipe> pipe,
                  std::shared_ptr<MessageSink> sink, const WireLimits& limits);

// The error's text, without the place in TensorPipe's sources that it came
// from. Where it is known what the text means, that comes first: "refused:
// ...", "reset: ...", "closed by the peer: ...".
std::string Describe(const tensorpipe::Error& error);

}  // namespace reprise

#endif  // REPRISE_AGENT_PIPE_MESSAGE_READER_H_
