#include "agent/pipe/channel_check.h"

#include "absl/strings/str_cat.h"
#include "tensorpipe/common/device.h"

namespace reprise {

absl::Status CheckChannels(const EncodedMessage& message,
                           PipeArrivals* arrivals, uint64_t pipe,
                           std::string_view peer) {
  if (message.needs_no_gpus()) return absl::OkStatus();
  for (const EncodedMessage::WireTensor& tensor : message.tensors()) {
    const Device& ours = tensor.storage->device();
    const Device& theirs = tensor.target;
    if (ours == CpuDevice() && theirs == CpuDevice()) continue;
    const bool has_channel =
        arrivals != nullptr &&
        arrivals->HasChannel(pipe, tensorpipe::Device(ours.type, ours.index),
                             tensorpipe::Device(theirs.type, theirs.index));
    if (has_channel) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "there is no channel from ", ours.ToString(), " here to ",
        theirs.ToString(), " of ", absl::string_view(peer.data(), peer.size()),
        ": it has no such device, or the two have no channel in common"));
  }
  return absl::OkStatus();
}

}  // namespace reprise
