// What a message's descriptor says, checked before anything is made of it. A
// peer wrote it, so none of it is believed. Only for the codec's sources.

#ifndef REPRISE_AGENT_WIRE_DESCRIPTOR_CHECK_H_
#define REPRISE_AGENT_WIRE_DESCRIPTOR_CHECK_H_

#include <vector>

#include "absl/status/status.h"
#include "agent/device/device.h"
#include "agent/wire/message_codec.h"
#include "tensorpipe/common/device.h"
#include "tensorpipe/core/message.h"

namespace reprise {

enum PayloadIndex { kType, kId, kPayload, kPickle, kNumPayloads };

inline bool IsCpu(const tensorpipe::Device& device) {
  return device.type == tensorpipe::kCpuDeviceType && device.index == 0;
}

inline Device ToDevice(const tensorpipe::Device& device) {
  return Device{device.type, device.index};
}

// Where the sender wants it; without a wish on the CPU.
inline tensorpipe::Device TargetOf(
    const tensorpipe::Descriptor::Tensor& tensor) {
  return tensor.targetDevice.value_or(
      tensorpipe::Device(tensorpipe::kCpuDeviceType, 0));
}

// The GPUs that its tensors go to.
std::vector<int> GpusOf(const tensorpipe::Descriptor& descriptor);

// INVALID_ARGUMENT unless its parts are those of a message of ours, of whatever
// size, and TensorPipe has channels for its tensors.
absl::Status CheckParts(const tensorpipe::Descriptor& descriptor,
                        const WireLimits& limits,
                        const ChannelCheck& has_channel);

// An error says why a message with these parts is not wanted: `TooLargeError`,
// or INVALID_ARGUMENT when a tensor is to arrive where none may.
absl::Status CheckWanted(const tensorpipe::Descriptor& descriptor,
                         const WireLimits& limits);

}  // namespace reprise

#endif  // REPRISE_AGENT_WIRE_DESCRIPTOR_CHECK_H_
