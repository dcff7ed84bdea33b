#include "agent/wire/descriptor_check.h"

#include <algorithm>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "agent/wire/call_extras.h"

namespace reprise {
namespace {

absl::Status BadDescriptor(const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("not a message of an RPC agent: ", what));
}

absl::Status TooLarge(const char* what, size_t size, size_t limit) {
  return TooLargeError(absl::StrCat("incoming message too large: ", what, " ",
                                    size, ", limit ", limit));
}

// For an error text: a peer's bytes, made printable and short.
std::string Quote(const tensorpipe::Device& device) {
  return absl::StrCat("'", absl::CHexEscape(device.type.substr(0, 40)), ":",
                      device.index, "'");
}

// Whether peers may send to these devices.
absl::Status CheckAllowed(const tensorpipe::Descriptor& descriptor,
                          const WireLimits& limits) {
  const absl::Span<const Device> allowed = limits.allowed_devices;
  for (const tensorpipe::Descriptor::Tensor& tensor : descriptor.tensors) {
    const tensorpipe::Device target = TargetOf(tensor);
    if (IsCpu(target) || allowed.empty() ||
        std::find(allowed.begin(), allowed.end(), ToDevice(target)) !=
            allowed.end()) {
      continue;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("a tensor is to arrive on ", target.toString(),
                     ", which is not one of the devices of this worker"));
  }
  return absl::OkStatus();
}

absl::Status CheckSizes(const tensorpipe::Descriptor& descriptor,
                        const WireLimits& limits) {
  const auto& payloads = descriptor.payloads;
  if (descriptor.metadata.size() > kMaxMetadata) {
    return TooLarge("metadata bytes", descriptor.metadata.size(), kMaxMetadata);
  }
  if (payloads[kPayload].length > limits.max_payload_bytes) {
    return TooLarge("payload bytes", payloads[kPayload].length,
                    limits.max_payload_bytes);
  }
  if (payloads[kPickle].length > limits.max_pickle_bytes) {
    return TooLarge("tensor pickle bytes", payloads[kPickle].length,
                    limits.max_pickle_bytes);
  }
  if (descriptor.tensors.size() > limits.max_tensors) {
    return TooLarge("tensors", descriptor.tensors.size(), limits.max_tensors);
  }
  size_t room = limits.max_tensor_bytes;
  for (const tensorpipe::Descriptor::Tensor& tensor : descriptor.tensors) {
    if (tensor.length > room) {
      return TooLargeError(
          absl::StrCat("incoming message too large: more than ",
                       limits.max_tensor_bytes, " bytes of tensors"));
    }
    room -= tensor.length;
  }
  return absl::OkStatus();
}

}  // namespace

// The GPUs that its tensors go to.
std::vector<int> GpusOf(const tensorpipe::Descriptor& descriptor) {
  std::vector<int> gpus;
  for (const tensorpipe::Descriptor::Tensor& tensor : descriptor.tensors) {
    const tensorpipe::Device target = TargetOf(tensor);
    if (!IsCpu(target) &&
        std::find(gpus.begin(), gpus.end(), target.index) == gpus.end()) {
      gpus.push_back(target.index);
    }
  }
  return gpus;
}

absl::Status CheckParts(const tensorpipe::Descriptor& descriptor,
                        const WireLimits& limits,
                        const ChannelCheck& has_channel) {
  const auto& payloads = descriptor.payloads;
  if (payloads.size() != kNumPayloads) {
    return BadDescriptor(absl::StrCat(payloads.size(), " payloads"));
  }
  if (payloads[kType].length != sizeof(int32_t) ||
      payloads[kId].length != sizeof(int64_t)) {
    return BadDescriptor(absl::StrCat("a type of ", payloads[kType].length,
                                      " bytes, an id of ", payloads[kId].length,
                                      " bytes"));
  }
  for (const tensorpipe::Descriptor::Tensor& tensor : descriptor.tensors) {
    // TensorPipe looks a channel up by both devices, and throws without one.
    const tensorpipe::Device target = TargetOf(tensor);
    const bool is_between_cpus = IsCpu(tensor.sourceDevice) && IsCpu(target);
    const bool is_possible =
        is_between_cpus ||
        (limits.devices != nullptr && has_channel != nullptr &&
         limits.devices->Check(ToDevice(target)).ok() &&
         has_channel(tensor.sourceDevice, target));
    if (!is_possible) {
      return BadDescriptor(absl::StrCat(
          "a tensor from an unknown device or to one: from ",
          Quote(tensor.sourceDevice), ", to ",
          tensor.targetDevice ? Quote(*tensor.targetDevice) : "any"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckWanted(const tensorpipe::Descriptor& descriptor,
                         const WireLimits& limits) {
  absl::Status sizes = CheckSizes(descriptor, limits);
  return sizes.ok() ? CheckAllowed(descriptor, limits) : sizes;
}

}  // namespace reprise
