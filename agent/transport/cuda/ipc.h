// The channel cuda_ipc: two processes of one host, by staging memory of the
// sender's that the receiver opens.
//
// On the wire it is TensorPipe's channel of that name, for peers that have it.
// The callbacks: of a send, when its last copy into the staging memory was
// enqueued; of a receive, when its last copy out of it was enqueued. With an
// error, the copies that were enqueued are ordered before later work of the
// stream.
//
// Where it differs from TensorPipe's:
//
// * Errors of the driver are errors of the channel.
// * What a peer says is checked, and the peer's memory is opened for this
//   channel alone, so that neither a second context of a process nor a process
//   with the number of an earlier one is taken for another.
// * The name of our own process in `IpcOutboxInfo::process`, which TensorPipe's
//   receivers compare and do not read, ends in a random number for each staging
//   area, for the same reason.
// * A receiver of ours takes a tensor for good only if the sender's end of the
//   connection was open after the copy had been enqueued, as far as the
//   transport can tell (peer_liveness.h): TensorPipe's sender may use a slot
//   again as soon as its channel has failed.
// * A sender of ours does not use a slot again which a peer might still read
//   after the channel has failed. It makes a new staging area for the channels
//   that come, and gives back the old one when it has lost
//   `IpcOutbox::kMaxRetired` later ones. Before it frees one, at its own end,
//   too, it waits until the last copies out of it are done, for
//   `IpcOutboxes::kLongestHold` at most.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_IPC_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_IPC_H_

#include <memory>

#include "absl/status/status.h"
#include "agent/transport/cuda/environment.h"
#include "tensorpipe/channel/context.h"

namespace reprise {

// Whether memory and events of `device` can be exported to other processes. No
// process can open its own handles, so whether they can be opened shows only
// when a peer does.
absl::Status TryExporting(GpuDriver& driver, int device);

// `isViable()` is false without a GPU; if one has no unified addressing, is not
// in the default compute mode, or cannot export memory.
std::shared_ptr<tensorpipe::channel::Context> MakeCudaIpcContext(
    const GpuChannelEnvironment& environment);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_IPC_H_
