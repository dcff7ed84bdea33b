// Whether a pipe has channels for the tensors of a message. Without one,
// TensorPipe throws in its loop.

#ifndef REPRISE_AGENT_PIPE_CHANNEL_CHECK_H_
#define REPRISE_AGENT_PIPE_CHANNEL_CHECK_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "agent/transport/arrivals.h"
#include "agent/wire/message_codec.h"

namespace reprise {

// FAILED_PRECONDITION names the devices between which `pipe`, which leads to
// `peer`, has no channel. `arrivals` may be null: then nothing is known of it.
absl::Status CheckChannels(const EncodedMessage& message,
                           PipeArrivals* arrivals, uint64_t pipe,
                           std::string_view peer);

}  // namespace reprise

#endif  // REPRISE_AGENT_PIPE_CHANNEL_CHECK_H_
