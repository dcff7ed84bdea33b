// The sending half of message_codec.h.

#include <algorithm>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/call_error.h"
#include "agent/wire/message_codec.h"
#include "agent/wire/tensor_copy.h"
#include "tensorpipe/common/cpu_buffer.h"

namespace reprise {
namespace {

// The key of a status's payload, which stays in this process.
constexpr char kTooLarge[] = "reprise/too-large";

absl::Status TooLarge(const char* what, size_t size, size_t limit) {
  return TooLargeError(
      absl::StrCat("message too large: ", what, " ", size, ", limit ", limit));
}

// Keeps `guard` until the GPUs are done with what they have on `streams` when
// the last message lets go of the result.
std::shared_ptr<void> KeepForGpus(std::shared_ptr<void> guard,
                                  const WireLimits& limits,
                                  const StreamSet& streams) {
  std::shared_ptr<Storage> kept;
  if (guard != nullptr) {
    kept = limits.devices->gpu_memory()->Adopt(
        streams.streams().front().device, nullptr, 0,
        [guard = std::move(guard)](void*) mutable { guard.reset(); });
    for (const GpuStream& stream : streams.streams()) kept->RecordUse(stream);
  }
  return std::shared_ptr<void>(
      static_cast<void*>(nullptr),
      [kept = std::move(kept), left = limits.on_gpus_left](void*) mutable {
        kept.reset();
        if (left != nullptr) (*left)();
      });
}

bool IsOnGpu(const Tensor& tensor) {
  return tensor.storage->device() != CpuDevice();
}

}  // namespace

class MessageEncoder {
 public:
  MessageEncoder(const WireLimits& limits, const Route& route)
      : limits_(limits), route_(route) {}

  absl::StatusOr<std::shared_ptr<const EncodedMessage>> Run(Message message,
                                                            int64_t id) {
    if (message.payload.size() > limits_.max_payload_bytes) {
      return TooLarge("payload bytes", message.payload.size(),
                      limits_.max_payload_bytes);
    }
    is_request_ = IsRequest(message.type);
    auto encoded = std::make_shared<EncodedMessage>();
    encoded->type_ = static_cast<int32_t>(message.type);
    encoded->id_ = id;
    encoded->payload_ = std::move(message.payload);
    if (is_request_ && route_.map != nullptr) {
      encoded->way_back_ = Reverse(*route_.map);
    }
    if (message.tensors.empty()) {
      encoded->release_guard_ = std::move(message.release_guard);
      encoded->pickle_ = EmptyTensorPickle();
      return encoded;
    }
    if (auto status = Check(message.tensors); !status.ok()) return status;
    for (const Tensor& tensor : message.tensors) {
      if (IsLaterType(tensor.dtype)) encoded->later_type_ = tensor.dtype;
    }
    if (!gpus_.empty()) {
      auto streams = limits_.devices->gpu_streams()->NextAfter(
          gpus_, message.streams, route_.otherwise_ready);
      if (!streams.ok()) return streams.status();
      streams_ = *std::move(streams);
      message.release_guard =
          KeepForGpus(std::move(message.release_guard), limits_, streams_);
    }
    encoded->release_guard_ = std::move(message.release_guard);
    for (Tensor& tensor : message.tensors) {
      absl::Status status = IsOnGpu(tensor) ? CopyOnGpu(tensor) : Copy(tensor);
      if (!status.ok()) return status;
    }
    TensorPickle pickle = PickleTensors(message.tensors);
    if (auto status = AddTensors(pickle, *encoded); !status.ok()) return status;
    if (pickle.pickle.size() > limits_.max_pickle_bytes) {
      return TooLarge("tensor pickle bytes", pickle.pickle.size(),
                      limits_.max_pickle_bytes);
    }
    encoded->pickle_storage_ = std::move(pickle.pickle);
    encoded->pickle_ = encoded->pickle_storage_;
    return encoded;
  }

 private:
  // Null when there is no mapping: a CPU is mapped to itself then.
  const Device* Mapped(const Device& device) const {
    if (route_.map == nullptr) return nullptr;
    const auto found = route_.map->find(device);
    return found == route_.map->end() ? nullptr : &found->second;
  }

  absl::Status NotMapped(const Device& device) const {
    const std::string text = absl::StrCat(
        "TensorPipe RPC backend only supports CPU tensors by default, please "
        "move your tensors to CPU before sending them over RPC, or call "
        "`set_device_map` on `TensorPipeRpcBackendOptions` to explicitly "
        "configure device mapping. ",
        is_request_ ? "Request" : "Response",
        " device mapping is not available for destination ",
        absl::string_view(route_.peer.data(), route_.peer.size()));
    const bool has_none = route_.map == nullptr || route_.map->empty();
    return absl::InvalidArgumentError(
        has_none
            ? absl::StrCat(text,
                           ", but found tensor on device: ", device.ToString())
            : absl::StrCat(text, " for device ", device.ToString(),
                           " but received a tensor on that device."));
  }

  // Of a GPU that tensors of the message are on.
  absl::Status CheckGpu(const Device& device) const {
    if (Mapped(device) == nullptr) return NotMapped(device);
    const absl::Span<const Device> allowed = limits_.allowed_devices;
    if (!allowed.empty() &&
        std::find(allowed.begin(), allowed.end(), device) == allowed.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "RPC detected that a user-function output tensor on device ",
          device.ToString(),
          ". This device is not one of the input tensor devices: ",
          absl::StrJoin(allowed, ", ",
                        [](std::string* out, const Device& one) {
                          out->append(one.ToString());
                        }),
          ", which is not yet supported."));
    }
    if (limits_.devices == nullptr) return Devices().Check(device);
    return limits_.devices->Check(device);
  }

  // Checks the tensors, and finds the GPUs that they are on.
  absl::Status Check(const std::vector<Tensor>& tensors) {
    if (tensors.size() > limits_.max_tensors) {
      return TooLarge("tensors", tensors.size(), limits_.max_tensors);
    }
    for (const Tensor& tensor : tensors) {
      if (auto status = CheckPicklable(tensor); !status.ok()) return status;
      if (!IsOnGpu(tensor)) continue;
      const Device& device = tensor.storage->device();
      if (std::find(gpus_.begin(), gpus_.end(), device.index) != gpus_.end()) {
        continue;
      }
      if (auto status = CheckGpu(device); !status.ok()) return status;
      gpus_.push_back(device.index);
    }
    return absl::OkStatus();
  }

  // Puts a copy in the place of a tensor that needs one.
  absl::Status Copy(Tensor& tensor) {
    if (IsWorthCopying(tensor)) {
      auto copy = CopyContiguous(tensor);
      if (!copy.ok()) return copy.status();
      tensor = *std::move(copy);
    } else if (!tensor.storage->owns_memory()) {
      std::shared_ptr<Storage>& copy = copies_[tensor.storage];
      if (copy == nullptr) {
        auto made = CopyStorage(*tensor.storage);
        if (!made.ok()) return made.status();
        copy = *std::move(made);
      }
      tensor.storage = copy;
    }
    return absl::OkStatus();
  }

  // The whole storage is sent where the GPU has no memory for a copy.
  absl::Status CopyOnGpu(Tensor& tensor) {
    if (!IsWorthCopying(tensor)) return absl::OkStatus();
    auto copy = CopyContiguousOnGpu(tensor, *limits_.devices, streams_);
    if (absl::IsResourceExhausted(copy.status())) return absl::OkStatus();
    if (!copy.ok()) return copy.status();
    if (copy->has_value()) tensor = **std::move(copy);
    return absl::OkStatus();
  }

  absl::Status AddTensors(const TensorPickle& pickle, EncodedMessage& encoded) {
    size_t room = limits_.max_tensor_bytes;
    std::vector<EncodedMessage::WireTensor>& wire = encoded.tensors_;
    wire.reserve(pickle.storages.size());
    for (const std::shared_ptr<Storage>& storage : pickle.storages) {
      if (storage->num_bytes() > room) {
        return TooLargeError(absl::StrCat("message too large: more than ",
                                          limits_.max_tensor_bytes,
                                          " bytes of tensors"));
      }
      room -= storage->num_bytes();
      const Device& device = storage->device();
      const Device* const mapped = Mapped(device);
      const Device target = mapped == nullptr ? CpuDevice() : *mapped;
      if (device == CpuDevice()) {
        wire.push_back(
            {storage, target, tensorpipe::CpuBuffer{storage->data()}});
      } else {
        auto buffer = limits_.devices->ToBuffer(*storage, streams_);
        if (!buffer.ok()) return buffer.status();
        wire.push_back({storage, target, *std::move(buffer)});
      }
      if (device != CpuDevice() || target != CpuDevice()) {
        encoded.needs_no_gpus_ = false;
      }
    }
    return absl::OkStatus();
  }

  const WireLimits& limits_;
  const Route& route_;
  bool is_request_ = false;
  std::vector<int> gpus_;
  StreamSet streams_;  // one of each of `gpus_`
  // The copy of each borrowed storage. The key keeps the storage alive, so that
  // no other storage can get its address. Never iterated.
  absl::flat_hash_map<std::shared_ptr<Storage>, std::shared_ptr<Storage>>
      copies_;
};

absl::Status TooLargeError(absl::string_view text) {
  absl::Status status = absl::ResourceExhaustedError(text);
  status.SetPayload(kTooLarge, absl::Cord());
  return WithCallError(std::move(status), {.source = CallErrorSource::kCaller,
                                           .may_have_run = false,
                                           .retry_may_help = false});
}

bool IsTooLarge(const absl::Status& status) {
  return status.GetPayload(kTooLarge).has_value();
}

absl::Status LaterTypeError(DType type, std::string_view peer) {
  return absl::FailedPreconditionError(absl::StrCat(
      "a tensor of ", std::string(ToString(type)), " is not sent to ",
      std::string(peer),
      ", a stock worker, whose process would end if its PyTorch does not know "
      "that type; if all stock workers of the group know it, set "
      "AgentOptions::stock_workers_know_later_types"));
}

size_t EncodedMessage::num_bytes() const {
  size_t bytes =
      sizeof(type_) + sizeof(id_) + payload().size() + pickle().size();
  for (const WireTensor& tensor : tensors()) {
    bytes += tensor.storage->num_bytes();
  }
  return bytes;
}

absl::StatusOr<std::shared_ptr<const EncodedMessage>> Encode(
    Message message, int64_t id, const WireLimits& limits, const Route& route) {
  try {
    return MessageEncoder(limits, route).Run(std::move(message), id);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory to encode a message");
  }
}

std::shared_ptr<const EncodedMessage> WithId(
    const std::shared_ptr<const EncodedMessage>& message, int64_t id) {
  auto renamed = std::make_shared<EncodedMessage>();
  renamed->type_ = message->type_;
  renamed->id_ = id;
  renamed->base_ = message->base_ ? message->base_ : message;
  return renamed;
}

tensorpipe::Message ToTensorPipe(const EncodedMessage& message,
                                 std::string metadata) {
  // TensorPipe's pointers are not const, but it does not change what it sends.
  const auto payload = [](const void* data, size_t length) {
    tensorpipe::Message::Payload result;
    result.data = const_cast<void*>(data);
    result.length = length;
    return result;
  };
  tensorpipe::Message result;
  result.metadata = std::move(metadata);
  result.payloads = {
      payload(&message.type_, sizeof(message.type_)),
      payload(&message.id_, sizeof(message.id_)),
      payload(message.payload().data(), message.payload().size()),
      payload(message.pickle().data(), message.pickle().size()),
  };
  result.tensors.reserve(message.tensors().size());
  for (const EncodedMessage::WireTensor& tensor : message.tensors()) {
    tensorpipe::Message::Tensor& out = result.tensors.emplace_back();
    out.buffer = tensor.buffer;
    out.length = tensor.storage->num_bytes();
    out.targetDevice =
        tensorpipe::Device(tensor.target.type, tensor.target.index);
  }
  return result;
}

}  // namespace reprise
