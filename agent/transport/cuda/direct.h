// The channel cuda_direct, between peers of ours on one host: the receiver
// opens the sender's own memory and copies it once.
//
// The handle of an allocation is opened at its first use and kept open for the
// channel, so a peer is never taken for another one. Memory that cannot be
// exported goes through staging memory of the sender's that can, in chunks;
// each tensor decides for itself. The connections: "offers", a frame for each
// tensor or chunk, in their order; and "replies". The frames are in wire.h.
//
// The callbacks: of a send, when the receiver's copy is done, so the memory is
// free for anything; of a receive, when its last copy was enqueued on its
// stream, behind the work that was on the sender's stream. With an error, the
// copies that a receive had enqueued are ordered before later work of its
// stream. Handles that are open and events are closed when the copies are done.
//
// A peer's copy cannot be called back, so a receiver claims an offer in memory
// that both share before it copies (direct_claims.h). When a channel fails, the
// sender revokes what nobody has claimed, and holds what somebody has until
// that copy is done or the peer's process has ended; `kCudaDirectLongestHold`
// at most, as the peer may stand still. So what is reported as good is what was
// sent, however the channel ends, but for a copy that is delayed for longer.
//
// A receiver keeps the sender's memory open until its channel ends or 64 other
// allocations were used since. The driver keeps the memory itself for as long,
// though its owner may have freed it.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_H_

#include <cstddef>
#include <memory>

#include "absl/time/time.h"
#include "agent/transport/cuda/environment.h"
#include "tensorpipe/channel/context.h"

namespace reprise {

inline constexpr absl::Duration kCudaDirectLongestHold = absl::Seconds(10);
// Of a device's staging memory, which is made when it is first needed.
inline constexpr size_t kCudaDirectSlotBytes = size_t{8} << 20;
inline constexpr int kCudaDirectSlots = 4;

// `isViable()` is false without a GPU; if one has no unified addressing, is not
// in the default compute mode, or cannot export memory.
std::shared_ptr<tensorpipe::channel::Context> MakeCudaDirectContext(
    const GpuChannelEnvironment& environment);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_H_
