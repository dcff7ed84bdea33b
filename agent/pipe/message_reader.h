// Reads the messages of a pipe, one after another.

#ifndef REPRISE_AGENT_PIPE_MESSAGE_READER_H_
#define REPRISE_AGENT_PIPE_MESSAGE_READER_H_

#include <cstddef>
#include <memory>
#include <string>

#include "agent/wire/message_codec.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/core/pipe.h"

namespace reprise {

// Called on threads of TensorPipe, or of whoever uses its context just then, or
// inline; never two at a time. Must not block or throw.
class MessageSink {
 public:
  virtual ~MessageSink() = default;
  // A message of so many bytes begins to arrive: the connection works.
  virtual void OnMessageBegins(size_t num_bytes) = 0;
  // False: the next message is not read until the sink calls `ReadMessages`
  // again. Asked once for each message that has arrived, before `OnMessage`.
  virtual bool ReadsOn() { return true; }
  virtual void OnMessage(IncomingMessage message) = 0;
  // The last call. The pipe must then be closed.
  virtual void OnReadFailed(const std::string& cause) = 0;
};

// Reads until the pipe fails or says what is no message of ours. The pipe's
// callbacks keep both alive: close the pipe in the end.
// Messages beyond `limits`, which must outlive the pipe's callbacks, end it.
void ReadMessages(std::shared_ptr<tensorpipe::Pipe> pipe,
                  std::shared_ptr<MessageSink> sink, const WireLimits& limits);

// The error's text without the place in TensorPipe's sources that it came from,
// after what it means where that is known: "refused: ...", "reset: ...",
// "closed by the peer: ...".
std::string Describe(const tensorpipe::Error& error);

}  // namespace reprise

#endif  // REPRISE_AGENT_PIPE_MESSAGE_READER_H_
