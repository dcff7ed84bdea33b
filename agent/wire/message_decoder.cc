// The receiving half of message_codec.h.

#include <algorithm>
#include <array>
#include <climits>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/device/gpu_buffer.h"
#include "agent/wire/descriptor_check.h"
#include "agent/wire/discard_memory.h"
#include "agent/wire/message_codec.h"
#include "tensorpipe/common/cpu_buffer.h"

namespace reprise {
namespace {

// Memory for bytes that become a string where they are. To resize a string is
// to clear it first, which takes up the memory, and time; the put area of a
// string buffer is not cleared.
class StringMemory final : private std::stringbuf {
 public:
  explicit StringMemory(size_t size)
      : std::stringbuf(Reserve(size), std::ios_base::out), size_(size) {
    const bool is_enough = static_cast<size_t>(epptr() - pbase()) >= size;
    // Another standard library might not make all that was reserved available.
    if (!is_enough) str(std::string(size, '\0'));
  }

  char* data() const { return pbase(); }

  // All of it; leaves nothing.
  std::string Take() {
    for (size_t left = size_; left > 0;) {
      const size_t step = std::min<size_t>(left, INT_MAX);
      pbump(static_cast<int>(step));
      left -= step;
    }
    return static_cast<std::stringbuf&&>(*this).str();
  }

 private:
  static std::string Reserve(size_t size) {
    std::string memory;
    memory.reserve(size);
    return memory;
  }

  const size_t size_;
};

}  // namespace

// Its address does not change, so TensorPipe may write into it.
//
// The message's payload is received where it stays. A peer that says how much
// is to come, and sends nothing, must take up addresses and no memory.
struct IncomingMessage::State {
  static constexpr size_t kLargePayload = size_t{1} << 20;
  // That of a message without tensors is shorter.
  static constexpr size_t kSmallPickle = 128;

  int32_t type = 0;
  int64_t id = 0;
  std::string metadata;
  std::string payload;
  std::optional<StringMemory> large_payload;
  size_t payload_size = 0;
  std::array<char, kSmallPickle> small_pickle;
  std::unique_ptr<char[]> large_pickle;
  size_t pickle_size = 0;
  std::vector<std::shared_ptr<Storage>> storages;
  std::vector<tensorpipe::Buffer> buffers;  // of the storages
  StreamSet streams;                        // on which they are received
  DeviceMap way_back;
  TensorPickleLimits pickle_limits;

  // Why the message is thrown away. Not OK: instead of the memory above,
  // `discarded` takes the payload, the pickle and the tensors one after
  // another.
  absl::Status refusal;
  std::shared_ptr<DiscardMemory> discarded;
  // Keeps `discarded` until GPUs do not write there any more. May be null.
  std::shared_ptr<Storage> discarded_by_gpus;
  struct Unwanted {
    size_t num_bytes = 0;
    tensorpipe::Device target;
  };
  std::vector<Unwanted> unwanted;

  void AllocatePayload(size_t size) {
    payload_size = size;
    if (size < kLargePayload) {
      payload.resize(size);
    } else {
      large_payload.emplace(size);
    }
  }
  void AllocatePickle(size_t size) {
    pickle_size = size;
    if (size > kSmallPickle) {
      large_pickle = std::make_unique_for_overwrite<char[]>(size);
    }
  }
  char* payload_data() {
    if (!refusal.ok()) return discarded->data();
    return large_payload ? large_payload->data() : payload.data();
  }
  char* pickle_data() {
    if (!refusal.ok()) return discarded->data() + payload_size;
    return large_pickle ? large_pickle.get() : small_pickle.data();
  }
};

absl::StatusOr<IncomingMessage> IncomingMessage::Allocate(
    const tensorpipe::Descriptor& descriptor, const WireLimits& limits,
    const ChannelCheck& has_channel) {
  absl::Status parts = CheckParts(descriptor, limits, has_channel);
  if (!parts.ok()) return parts;
  absl::Status refusal = CheckWanted(descriptor, limits);
  if (refusal.ok()) {
    auto wanted = AllocateWanted(descriptor, limits);
    if (wanted.ok()) return wanted;
    refusal = wanted.status();
  }
  return AllocateUnwanted(descriptor, limits, std::move(refusal));
}

absl::StatusOr<IncomingMessage> IncomingMessage::AllocateWanted(
    const tensorpipe::Descriptor& descriptor, const WireLimits& limits) {
  try {
    auto state = std::make_unique<State>();
    state->metadata = descriptor.metadata;
    state->AllocatePayload(descriptor.payloads[kPayload].length);
    state->AllocatePickle(descriptor.payloads[kPickle].length);
    state->pickle_limits.pickle.max_bytes = limits.max_pickle_bytes;
    state->pickle_limits.max_tensors = limits.max_tensors;
    state->storages.reserve(descriptor.tensors.size());
    state->buffers.reserve(descriptor.tensors.size());
    if (const std::vector<int> gpus = GpusOf(descriptor); !gpus.empty()) {
      auto streams = limits.devices->gpu_streams()->Next(gpus);
      if (!streams.ok()) return streams.status();
      state->streams = *std::move(streams);
    }
    for (const tensorpipe::Descriptor::Tensor& tensor : descriptor.tensors) {
      const tensorpipe::Device target = TargetOf(tensor);
      if (!IsCpu(target) || !IsCpu(tensor.sourceDevice)) {
        state->way_back.emplace(ToDevice(target),
                                ToDevice(tensor.sourceDevice));
      }
      if (!IsCpu(target)) {
        auto storage = limits.devices->Allocate(ToDevice(target), tensor.length,
                                                state->streams);
        if (!storage.ok()) return storage.status();
        auto buffer = limits.devices->ToBuffer(**storage, state->streams);
        if (!buffer.ok()) return buffer.status();
        state->buffers.push_back(*std::move(buffer));
        state->storages.push_back(*std::move(storage));
        continue;
      }
      auto storage = limits.allocator == nullptr
                         ? AllocateCpu(tensor.length)
                         : limits.allocator->Allocate(tensor.length);
      if (!storage.ok()) return storage.status();
      state->buffers.push_back(tensorpipe::CpuBuffer{(*storage)->data()});
      state->storages.push_back(*std::move(storage));
    }
    return IncomingMessage(std::move(state));
  } catch (const std::exception&) {  // bad_alloc, length_error
    return absl::ResourceExhaustedError("no memory for an incoming message");
  }
}

absl::StatusOr<IncomingMessage> IncomingMessage::AllocateUnwanted(
    const tensorpipe::Descriptor& descriptor, const WireLimits& limits,
    absl::Status refusal) {
  try {
    auto state = std::make_unique<State>();
    state->refusal = std::move(refusal);
    state->payload_size = descriptor.payloads[kPayload].length;
    state->pickle_size = descriptor.payloads[kPickle].length;
    state->unwanted.reserve(descriptor.tensors.size());
    size_t room = DiscardMemory::kMaxBytes;
    size_t gpu_room = kMaxDiscardedGpuBytes;
    const auto fits = [](size_t size, size_t& left) {
      if (size > left) return false;
      left -= size;
      return true;
    };
    bool all_fit =
        fits(state->payload_size, room) && fits(state->pickle_size, room);
    for (const tensorpipe::Descriptor::Tensor& tensor : descriptor.tensors) {
      const tensorpipe::Device target = TargetOf(tensor);
      const bool is_on_cpus = IsCpu(target) && IsCpu(tensor.sourceDevice);
      all_fit = all_fit && fits(tensor.length, room) &&
                (is_on_cpus || fits(tensor.length, gpu_room));
      state->unwanted.push_back({tensor.length, target});
    }
    if (!all_fit) return state->refusal;
    auto discarded = DiscardMemory::Make(DiscardMemory::kMaxBytes - room);
    if (!discarded.ok()) {
      return absl::ResourceExhaustedError(absl::StrCat(
          state->refusal.message(), "; ", discarded.status().message()));
    }
    state->discarded = std::make_shared<DiscardMemory>(*std::move(discarded));
    for (const int gpu : GpusOf(descriptor)) {
      std::shared_ptr<Storage>& kept = state->discarded_by_gpus;
      if (kept == nullptr) {
        kept = limits.devices->gpu_memory()->Adopt(
            gpu, nullptr, 0,
            [memory = state->discarded](void*) mutable { memory.reset(); });
      }
      kept->RecordUse({gpu, GpuStream::kDefault});
    }
    return IncomingMessage(std::move(state));
  } catch (const std::exception&) {  // bad_alloc, length_error
    return absl::ResourceExhaustedError("no memory to skip a message");
  }
}

IncomingMessage::IncomingMessage(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
IncomingMessage::IncomingMessage(IncomingMessage&&) noexcept = default;
IncomingMessage& IncomingMessage::operator=(IncomingMessage&&) noexcept =
    default;
IncomingMessage::~IncomingMessage() = default;

tensorpipe::Allocation IncomingMessage::allocation() const {
  tensorpipe::Allocation result;
  result.payloads.resize(kNumPayloads);
  result.payloads[kType].data = &state_->type;
  result.payloads[kId].data = &state_->id;
  result.payloads[kPayload].data = state_->payload_data();
  result.payloads[kPickle].data = state_->pickle_data();
  char* at = state_->refusal.ok() ? nullptr
                                  : state_->pickle_data() + state_->pickle_size;
  result.tensors.reserve(state_->buffers.size() + state_->unwanted.size());
  for (const tensorpipe::Buffer& buffer : state_->buffers) {
    result.tensors.emplace_back().buffer = buffer;
  }
  for (const State::Unwanted& tensor : state_->unwanted) {
    tensorpipe::Buffer& buffer = result.tensors.emplace_back().buffer;
    if (IsCpu(tensor.target)) {
      buffer = tensorpipe::CpuBuffer{at};
    } else {
      // A GPU copies to memory of the host as well.
      buffer = GpuBuffer{at, {tensor.target.index, GpuStream::kDefault}};
    }
    at += tensor.num_bytes;
  }
  return result;
}

size_t IncomingMessage::num_bytes() const {
  size_t bytes = sizeof(state_->type) + sizeof(state_->id) +
                 state_->payload_size + state_->pickle_size;
  for (const std::shared_ptr<Storage>& storage : state_->storages) {
    bytes += storage->num_bytes();
  }
  for (const State::Unwanted& tensor : state_->unwanted) {
    bytes += tensor.num_bytes;
  }
  return bytes;
}

MessageType IncomingMessage::type() const {
  return static_cast<MessageType>(state_->type);
}

int64_t IncomingMessage::id() const { return state_->id; }

std::string_view IncomingMessage::metadata() const { return state_->metadata; }

const DeviceMap& IncomingMessage::way_back() const { return state_->way_back; }

absl::StatusOr<DecodedMessage> IncomingMessage::Decode() && {
  if (!state_->refusal.ok()) return state_->refusal;
  try {
    auto tensors = UnpickleTensors({state_->pickle_data(), state_->pickle_size},
                                   state_->storages, state_->pickle_limits);
    if (!tensors.ok()) return tensors.status();
    DecodedMessage decoded;
    decoded.id = id();
    decoded.message.type = type();
    decoded.message.payload = state_->large_payload
                                  ? state_->large_payload->Take()
                                  : std::move(state_->payload);
    decoded.message.tensors = *std::move(tensors);
    decoded.message.streams = state_->streams;
    return decoded;
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory to decode a message");
  }
}

}  // namespace reprise
