// The channel cma, by which processes on one host copy tensors out of each
// other's memory, so that no tensor is ever taken for good whose memory its
// sender had let go of.
//
// TensorPipe's channel of that name calls back a send with an error as soon as
// its connection fails, while the receiver may still copy, and then the
// receiver reports whatever lies there by then as good. Here there are two
// channels, because what can be done depends on who is at the other end, and
// the name of a channel tells that before the first byte:
//
// * `kOwn`, "reprise_cma": both ends are ours. The sender publishes a word (see
//   validity.h) with each tensor and takes it back before it lets go. A
//   secret of the receiver's is in that word, so a process that does not know
//   it cannot be named as the sender.
// * `kStock`, "cma": the other end is TensorPipe's own, and the bytes on the
//   wire are its. What is sent is copied to pages of the channel's own first,
//   which are taken away from the receiver when the channel fails (staging.h).
//   What is received counts only if the sender's process still held the other
//   end of the connection after the copy (peer_liveness.h).
//
// Neither calls back later than TensorPipe's, or waits for a peer when it is
// closed, but for the piece that is just being copied.

#ifndef REPRISE_AGENT_TRANSPORT_CMA_CONTEXT_H_
#define REPRISE_AGENT_TRANSPORT_CMA_CONTEXT_H_

#include <memory>

#include "agent/transport/cma/environment.h"
#include "tensorpipe/channel/context.h"

namespace reprise {

enum class CmaProtocol { kOwn, kStock };

// The name under which TensorPipe's core must know the channel.
constexpr const char* CmaNameOf(CmaProtocol protocol) {
  return protocol == CmaProtocol::kOwn ? "reprise_cma" : "cma";
}

// `isViable()` is false when no other process could read this one's memory; why
// is what the environment's `domain` says. Does not throw. Threads are started
// when there is something to copy.
std::shared_ptr<tensorpipe::channel::Context> MakeCmaContext(
    CmaProtocol protocol, CmaEnvironment environment = RealCmaEnvironment());

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CMA_CONTEXT_H_
