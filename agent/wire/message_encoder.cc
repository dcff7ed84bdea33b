// The sending half of message_codec.h.

#include <new>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "agent/call_error.h"
#include "agent/wire/message_codec.h"
#include "agent/wire/tensor_copy.h"

namespace reprise {
namespace {

// The key of a status's payload, which stays in this process.
constexpr char kTooLarge[] = "reprise/too-large";

absl::Status TooLarge(const char* what, size_t size, size_t limit) {
  return TooLargeError(
      absl::StrCat("message too large: ", what, " ", size, ", limit ", limit));
}

}  // namespace

class MessageEncoder {
 public:
  MessageEncoder(const WireLimits& limits, absl::Span<const Device> targets)
      : limits_(limits), targets_(targets) {}

  absl::StatusOr<std::shared_ptr<const EncodedMessage>> Run(Message message,
                                                            int64_t id) {
    if (message.payload.size() > limits_.max_payload_bytes) {
      return TooLarge("payload bytes", message.payload.size(),
                      limits_.max_payload_bytes);
    }
    auto encoded = std::make_shared<EncodedMessage>();
    encoded->type_ = static_cast<int32_t>(message.type);
    encoded->id_ = id;
    encoded->payload_ = std::move(message.payload);
    encoded->release_guard_ = std::move(message.release_guard);
    if (message.tensors.empty()) {
      encoded->pickle_ = EmptyTensorPickle();
      return encoded;
    }
    if (auto status = Prepare(message.tensors); !status.ok()) return status;
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
  // Checks the tensors, and puts copies in the places of those that need one.
  absl::Status Prepare(std::vector<Tensor>& tensors) {
    if (tensors.size() > limits_.max_tensors) {
      return TooLarge("tensors", tensors.size(), limits_.max_tensors);
    }
    if (!targets_.empty() && targets_.size() != tensors.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          targets_.size(), " target devices for ", tensors.size(), " tensors"));
    }
    for (Tensor& tensor : tensors) {
      if (auto status = CheckPicklable(tensor); !status.ok()) return status;
      const Device& device = tensor.storage->device();
      if (FindDeviceBackend(device.type) == nullptr ||
          (targets_.empty() && device != Device())) {
        return absl::InvalidArgumentError(absl::StrCat(
            "TensorPipe RPC backend only supports CPU tensors by default, "
            "please move your tensors to CPU before sending them over RPC, or "
            "call `set_device_map` on `TensorPipeRpcBackendOptions` to "
            "explicitly configure device mapping, but found tensor on device: ",
            device.ToString()));
      }
      if (device != Device()) continue;  // only CPU memory is copied
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
    }
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
      wire.push_back({storage, Device()});
    }
    // A storage is sent once, so all tensors that share it must have the same
    // target device.
    std::vector<bool> settled(wire.size());
    for (size_t i = 0; i < targets_.size(); ++i) {
      const size_t index = pickle.storage_of_tensor[i];
      if (settled[index] && wire[index].target != targets_[i]) {
        return absl::InvalidArgumentError(absl::StrCat(
            "tensors that share a storage cannot be sent to ",
            wire[index].target.ToString(), " and to ", targets_[i].ToString()));
      }
      wire[index].target = targets_[i];
      settled[index] = true;
    }
    return absl::OkStatus();
  }

  const WireLimits& limits_;
  const absl::Span<const Device> targets_;
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

size_t EncodedMessage::num_bytes() const {
  size_t bytes =
      sizeof(type_) + sizeof(id_) + payload().size() + pickle().size();
  for (const WireTensor& tensor : tensors()) {
    bytes += tensor.storage->num_bytes();
  }
  return bytes;
}

absl::StatusOr<std::shared_ptr<const EncodedMessage>> Encode(
    Message message, int64_t id, const WireLimits& limits,
    absl::Span<const Device> target_devices) {
  try {
    return MessageEncoder(limits, target_devices).Run(std::move(message), id);
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
    out.buffer = FindDeviceBackend(tensor.storage->device().type)
                     ->ToBuffer(*tensor.storage);
    out.length = tensor.storage->num_bytes();
    out.targetDevice =
        tensorpipe::Device(tensor.target.type, tensor.target.index);
  }
  return result;
}

}  // namespace reprise
