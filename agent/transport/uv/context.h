// The transport uv: TensorPipe's own protocol over TCP, by libuv, that holds
// whatever a peer sends.
//
// On the wire it is TensorPipe's transport uv, and the core and the channels on
// top of it are TensorPipe's. But that one ends the process at the first frame
// that is not as long as expected, at a port that is taken and for want of a
// file descriptor. Here a connection fails, or a listener does, with libuv's
// reason. What is in the frames is for checked_transport.h to look at.

#ifndef REPRISE_AGENT_TRANSPORT_UV_CONTEXT_H_
#define REPRISE_AGENT_TRANSPORT_UV_CONTEXT_H_

#include <memory>

#include "agent/transport/uv/first_frames.h"
#include "tensorpipe/transport/context.h"

namespace reprise {

// With a thread of its own, on which all callbacks are called. Addresses are
// "127.0.0.1:0", "[::1]:5000". `callers`: whom its listeners listen for. Throws
// when there is no thread or file descriptor to be had, and `connect` and
// `listen` throw for what is no address, as TensorPipe does.
std::shared_ptr<tensorpipe::transport::Context> MakeUvContext(Callers callers);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_CONTEXT_H_
