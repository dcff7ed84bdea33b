// A peer may send a message of any shape and any bytes: a descriptor, and what
// it announces. It must not crash the reader nor what reads the texts in it,
// and a message that is accepted can be sent again and is the same.
//
// The input is
//   a byte        the number of payloads
//   u32 each      their lengths
//   a byte        the number of tensors
//   u32 + a byte  each one's length, and its devices
//   a byte        the length of the metadata
//   the metadata, the payloads, and the tensors

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/wire/call_extras.h"
#include "agent/wire/message_codec.h"
#include "agent/wire/rpc_error.h"
#include "tensorpipe/common/cpu_buffer.h"
#include "tests/fuzz/touch_corners.h"
#include "tests/unit/wire/wire_testing.h"

namespace {

using reprise::IncomingMessage;
using reprise::Message;
using reprise::Tensor;

void Require(bool condition) {
  if (!condition) std::abort();
}

// Takes values from the front of the input; zeros when it is empty.
class Input {
 public:
  Input(const uint8_t* data, size_t size)
      : rest_(reinterpret_cast<const char*>(data), size) {}

  uint8_t TakeByte() {
    uint8_t value = 0;
    Take(&value, sizeof(value));
    return value;
  }
  size_t TakeLength() {
    uint32_t value = 0;
    Take(&value, sizeof(value));
    return value;
  }
  void Take(void* to, size_t size) {
    const size_t count = std::min(size, rest_.size());
    if (count > 0) std::memcpy(to, rest_.data(), count);
    rest_.remove_prefix(count);
  }

 private:
  std::string_view rest_;
};

tensorpipe::Descriptor TakeDescriptor(Input& input) {
  const std::array<tensorpipe::Device, 4> devices = {
      tensorpipe::Device("cpu", 0), tensorpipe::Device("cuda", 0),
      tensorpipe::Device("cpu", 1), tensorpipe::Device("\n", -1)};
  tensorpipe::Descriptor descriptor;
  descriptor.payloads.resize(input.TakeByte() % 6);
  for (auto& payload : descriptor.payloads) payload.length = input.TakeLength();
  descriptor.tensors.resize(input.TakeByte() % 8);
  for (auto& tensor : descriptor.tensors) {
    tensor.length = input.TakeLength();
    const uint8_t byte = input.TakeByte();
    tensor.sourceDevice = devices[byte % 4];
    if (byte / 4 % 8 < 4) tensor.targetDevice = devices[byte / 4 % 4];
  }
  descriptor.metadata.resize(input.TakeByte());
  input.Take(descriptor.metadata.data(), descriptor.metadata.size());
  return descriptor;
}

// What is thrown away is written at its ends only.
constexpr size_t kWhole = size_t{1} << 20;

void Fill(Input& input, void* memory, size_t size) {
  char* const bytes = static_cast<char*>(memory);
  input.Take(bytes, std::min(size, kWhole));
  if (size > kWhole) bytes[size - 1] = 1;
}

void SendAgain(const Message& message, int64_t id) {
  for (const Tensor& tensor : message.tensors) {
    Require(CheckBounds(tensor).ok());
    TouchCorners(tensor);
    // Integers with a gradient can be read, but are not written.
    if (!CheckPicklable(tensor).ok()) return;
  }
  const auto encoded = Encode(message, id);
  Require(encoded.ok());
  const tensorpipe::Message sent = ToTensorPipe(**encoded);
  auto incoming = IncomingMessage::Allocate(reprise::DescriptorOf(sent));
  Require(incoming.ok());
  reprise::Carry(sent, incoming->allocation());
  const auto again = std::move(*incoming).Decode();
  Require(again.ok() && again->id == id);
  Require(again->message.type == message.type &&
          again->message.payload == message.payload &&
          again->message.tensors.size() == message.tensors.size());
  for (size_t i = 0; i < message.tensors.size(); ++i) {
    Require(again->message.tensors[i].dtype == message.tensors[i].dtype &&
            again->message.tensors[i].sizes == message.tensors[i].sizes);
  }
}

// What reads the metadata, and the payloads of our own types and of errors.
void ReadTexts(std::string_view metadata, std::string_view payload) {
  const auto extras = reprise::DecodeExtras(metadata);
  if (extras.ok() && extras->remaining > absl::ZeroDuration()) {
    const auto again = reprise::DecodeExtras(reprise::EncodeExtras(*extras));
    Require(again.ok() && again->idempotency_key == extras->idempotency_key);
    Require(again->caller_instance == extras->caller_instance);
  }
  reprise::ReplyIdOf(metadata);
  const auto control = reprise::DecodeControl(payload);
  if (control.ok()) {
    const auto again = reprise::DecodeControl(reprise::EncodeControl(*control));
    Require(again.ok() && again->call_id == control->call_id);
  }
  reprise::InstanceOfPong(payload);
  reprise::ParseFeatures(payload);
  Require(!reprise::StatusFromException(payload).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const tensorpipe::Descriptor descriptor = TakeDescriptor(input);
  reprise::WireLimits limits;
  limits.max_payload_bytes = 65536;
  limits.max_pickle_bytes = 65536;
  limits.max_tensors = 6;
  limits.max_tensor_bytes = kWhole;
  auto incoming = IncomingMessage::Allocate(descriptor, limits);
  if (!incoming.ok()) return 0;
  const tensorpipe::Allocation allocation = incoming->allocation();
  Require(allocation.payloads.size() == descriptor.payloads.size() &&
          allocation.tensors.size() == descriptor.tensors.size());
  for (size_t i = 0; i < descriptor.payloads.size(); ++i) {
    Fill(input, allocation.payloads[i].data, descriptor.payloads[i].length);
  }
  for (size_t i = 0; i < descriptor.tensors.size(); ++i) {
    Fill(input, reprise::Pointer(allocation.tensors[i].buffer),
         descriptor.tensors[i].length);
  }
  const int64_t id = incoming->id();
  const std::string metadata(incoming->metadata());
  const auto decoded = std::move(*incoming).Decode();
  if (!decoded.ok()) {
    Require(!decoded.status().message().empty());
    return 0;
  }
  Require(decoded->id == id);
  Require(metadata == descriptor.metadata);
  Require(decoded->message.payload.size() == descriptor.payloads[2].length);
  ReadTexts(metadata, decoded->message.payload);
  SendAgain(decoded->message, id);
  return 0;
}
