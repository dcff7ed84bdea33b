// Messages to and from what TensorPipe carries: four payloads (type, id, the
// message's own, the tensor pickle) and one tensor for each storage. The
// metadata is empty but for `call_extras.h`.
//
// Thread-compatible: an `EncodedMessage` is immutable and may be shared; an
// `IncomingMessage` has one owner. Nothing here throws.

#ifndef REPRISE_AGENT_WIRE_MESSAGE_CODEC_H_
#define REPRISE_AGENT_WIRE_MESSAGE_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "agent/device/caching_allocator.h"
#include "agent/device/device_map.h"
#include "agent/device/devices.h"
#include "agent/device/stream_set.h"
#include "agent/message.h"
#include "agent/wire/tensor_pickle.h"
#include "tensorpipe/common/buffer.h"
#include "tensorpipe/common/device.h"
#include "tensorpipe/core/message.h"

namespace reprise {

// A message beyond these is neither sent nor accepted; and the devices between
// which tensors travel. What it points to must outlive the messages.
struct WireLimits {
  size_t max_payload_bytes = size_t{2} << 30;
  size_t max_pickle_bytes = size_t{64} << 20;
  size_t max_tensors = 65536;
  size_t max_tensor_bytes = size_t{64} << 30;  // of all storages together
  // For the tensors that are received on the CPU; null: `AllocateCpu`.
  CpuAllocator* allocator = nullptr;
  // Null: CPUs only.
  Devices* devices = nullptr;
  // Of its GPUs, those that may be used. Empty: all of them.
  absl::Span<const Device> allowed_devices = {};
  // Called when a message with tensors on our GPUs is dropped, on any thread:
  // those may still be reading them. Must be quick. May be null.
  std::shared_ptr<const std::function<void()>> on_gpus_left = nullptr;
};

// Whether `status`, of `Encode` or `Decode`, says that a message is beyond the
// limits: it will be so again when it is sent again.
bool IsTooLarge(const absl::Status& status);

// RESOURCE_EXHAUSTED for which `IsTooLarge` holds.
absl::Status TooLargeError(absl::string_view text);

// A message as it is sent, as often as need be.
class EncodedMessage {
 public:
  struct WireTensor {
    std::shared_ptr<Storage> storage;
    Device target;  // where the receiver is to put it
    tensorpipe::Buffer buffer;
  };

  MessageType type() const { return static_cast<MessageType>(type_); }
  int64_t id() const { return id_; }
  std::string_view payload() const { return body().payload_; }
  std::string_view pickle() const { return body().pickle_; }
  absl::Span<const WireTensor> tensors() const { return body().tensors_; }
  // From the receiver's devices to ours: where tensors of its reply shall go.
  const DeviceMap& way_back() const { return body().way_back_; }
  // Whether all tensors go from CPU to CPU, for which there always is a
  // channel.
  bool needs_no_gpus() const { return body().needs_no_gpus_; }
  // The type of a tensor that PyTorch 1.13 does not have, if there is one.
  std::optional<DType> later_type() const { return body().later_type_; }
  // Payloads and tensors.
  size_t num_bytes() const;

 private:
  friend class MessageEncoder;
  friend std::shared_ptr<const EncodedMessage> WithId(
      const std::shared_ptr<const EncodedMessage>& message, int64_t id);
  friend tensorpipe::Message ToTensorPipe(const EncodedMessage& message,
                                          std::string metadata);

  const EncodedMessage& body() const { return base_ ? *base_ : *this; }

  // Of the message that was encoded; goes last.
  std::shared_ptr<void> release_guard_;
  int32_t type_ = 0;
  int64_t id_ = 0;
  std::string payload_;
  std::string pickle_storage_;  // empty when there are no tensors
  std::string_view pickle_;
  std::vector<WireTensor> tensors_;
  DeviceMap way_back_;
  bool needs_no_gpus_ = true;
  std::optional<DType> later_type_;
  // Set by `WithId`: everything but type and id is there.
  std::shared_ptr<const EncodedMessage> base_;
};

// How the tensors of a message go to its receiver.
struct Route {
  // From our devices to the receiver's: null is empty. A CPU that is not in it
  // stays one.
  const DeviceMap* map = nullptr;
  std::string_view peer = {};  // the receiver, for error texts
  // Beside `Message::streams`: for the devices of which that names none.
  StreamSet otherwise_ready = {};
};

// The device of a storage decides where the receiver is to put it, so tensors
// that share one stay together. The payload is moved, storages are shared, and
// what they hold must not change until the message is written; but views of a
// small part of a large storage, and memory that is not owned, are copied. What
// lies on a GPU is read on streams of the agent's own, which wait here for
// those of the message. The guard of the message is dropped when those are
// done.
//
// INVALID_ARGUMENT for a tensor that no receiver could take, and with PyTorch's
// text for one on a device that is not in the map; RESOURCE_EXHAUSTED beyond
// the limits or when there is no memory for a copy; errors of the GPUs.
absl::StatusOr<std::shared_ptr<const EncodedMessage>> Encode(
    Message message, int64_t id, const WireLimits& limits = {},
    const Route& route = {});

// The same message under another id, for a retry; shares everything else.
std::shared_ptr<const EncodedMessage> WithId(
    const std::shared_ptr<const EncodedMessage>& message, int64_t id);

// The result points into `message`, which must outlive the write.
tensorpipe::Message ToTensorPipe(const EncodedMessage& message,
                                 std::string metadata = {});

// FAILED_PRECONDITION for a message with a tensor of `type`, which only a later
// PyTorch knows, to the stock worker `peer`, which may be an older one.
absl::Status LaterTypeError(DType type, std::string_view peer);

// Whether a pipe has a channel for tensors from a device of the peer's to one
// of ours. TensorPipe throws in its loop if one comes for which there is none.
using ChannelCheck = std::function<bool(const tensorpipe::Device& theirs,
                                        const tensorpipe::Device& ours)>;

struct DecodedMessage {
  Message message;
  int64_t id = 0;
};

// A message on its way in:
//
//   auto incoming = IncomingMessage::Allocate(descriptor);
//   pipe.read(incoming->allocation(), ...);   // keeping `incoming` alive
//   auto decoded = std::move(*incoming).Decode();
class IncomingMessage {
 public:
  // Believes nothing of `descriptor`. A message that is beyond the limits, or
  // for which there is no memory, is read as well, into memory that is thrown
  // away: its type and id are known then, and `Decode` fails. After an error
  // of this function the bytes cannot be read, and the pipe must be closed:
  // INVALID_ARGUMENT when this is none of our messages, RESOURCE_EXHAUSTED
  // when not even the thrown away memory can be had, and when more than
  // `kMaxDiscardedGpuBytes` would have to be thrown away on GPUs.
  //
  // Without `has_channel`, tensors go between CPUs only.
  static absl::StatusOr<IncomingMessage> Allocate(
      const tensorpipe::Descriptor& descriptor, const WireLimits& limits = {},
      const ChannelCheck& has_channel = nullptr);

  // A driver copies to memory that it does not know while the caller waits.
  static constexpr size_t kMaxDiscardedGpuBytes = size_t{256} << 20;

  IncomingMessage(IncomingMessage&&) noexcept;
  IncomingMessage& operator=(IncomingMessage&&) noexcept;
  ~IncomingMessage();

  // Where the bytes are to go; valid while this lives, also when it is moved.
  tensorpipe::Allocation allocation() const;
  // Payloads and tensors, as the peer sends them.
  size_t num_bytes() const;

  // After the read, and also after `Decode`, so that a request that cannot be
  // decoded can be answered.
  MessageType type() const;
  int64_t id() const;
  // What the peer says beside the message, not checked. Before the read too.
  // Empty for a message that is thrown away.
  std::string_view metadata() const;
  // From our devices to the peer's: back where its tensors on GPUs come from.
  // Empty for a message that is thrown away.
  const DeviceMap& way_back() const;

  // After the read. RESOURCE_EXHAUSTED for a message that was thrown away, for
  // which `IsTooLarge` holds if it was beyond the limits; the errors of
  // `UnpickleTensors`.
  absl::StatusOr<DecodedMessage> Decode() &&;

 private:
  struct State;
  explicit IncomingMessage(std::unique_ptr<State> state);
  static absl::StatusOr<IncomingMessage> AllocateWanted(
      const tensorpipe::Descriptor& descriptor, const WireLimits& limits);
  static absl::StatusOr<IncomingMessage> AllocateUnwanted(
      const tensorpipe::Descriptor& descriptor, const WireLimits& limits,
      absl::Status refusal);

  std::unique_ptr<State> state_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_WIRE_MESSAGE_CODEC_H_
