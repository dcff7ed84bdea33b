// The transport uv: TensorPipe's protocol over TCP, by libuv, in a form that
// withstands whatever a peer sends.
//
// On the wire it is the same as TensorPipe's own transport uv, and it works
// under TensorPipe's core and channels. TensorPipe's own ends the process at
// the first frame that does not have the expected length, at a port that is
// taken, and for lack of a file descriptor. Here the connection or the listener
// fails with libuv's reason. checked_transport.h checks what is in the frames.

#ifndef REPRISE_AGENT_TRANSPORT_UV_CONTEXT_H_
#define REPRISE_AGENT_TRANSPORT_UV_CONTEXT_H_

#include <memory>

#include "agent/transport/uv/first_frames.h"
#include "tensorpipe/transport/context.h"

namespace reprise {

// Makes a context with a thread of its own, on which all callbacks are called.
// Addresses are such as "127.0.0.1:0" and "[::1]:5000". `callers` says what the
// callers of its listeners are. Throws if no thread or file descriptor can be
// made. Its `connect` and `listen` throw for a malformed address, as those of
// TensorPipe do.
std::shared_ptr<tensorpipe::transport::Context> MakeUvContext(Callers callers);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_CONTEXT_H_
