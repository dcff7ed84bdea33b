#include "sim/trace/digest.h"

#include <cstring>
#include <string_view>
#include <vector>

#include "sim/random.h"

namespace reprise {
namespace {

bool IsContiguous(const Tensor& tensor) {
  int64_t expected = 1;
  for (size_t i = tensor.sizes.size(); i-- > 0;) {
    if (tensor.sizes[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.sizes[i];
  }
  return true;
}

// Hashes in lanes that a processor computes side by side, because tensors are
// most of what is hashed.
uint64_t HashManyBytes(const char* bytes, size_t count) {
  constexpr size_t kLanes = 8;
  uint64_t lanes[kLanes] = {};
  size_t at = 0;
  for (; at + 8 * kLanes <= count; at += 8 * kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      uint64_t word;
      std::memcpy(&word, bytes + at + 8 * lane, 8);
      uint64_t mixed = (lanes[lane] ^ word) * 0x9e3779b97f4a7c15u;
      lanes[lane] = mixed ^ mixed >> 29;
    }
  }
  uint64_t hash = HashBytes(std::string_view(bytes + at, count - at));
  for (const uint64_t lane : lanes) hash = HashCombine(hash, lane);
  return HashCombine(hash, count);
}

uint64_t HashElements(const Tensor& tensor) {
  const size_t element_bytes = SizeOf(tensor.dtype);
  const auto count = static_cast<size_t>(tensor.num_elements());
  if (count == 0 || tensor.storage == nullptr) return 0;
  // The bytes of a GPU are not for the host to read.
  if (tensor.storage->device() != CpuDevice()) return 1;
  const char* const first =
      static_cast<const char*>(tensor.storage->data()) +
      static_cast<size_t>(tensor.storage_offset) * element_bytes;
  if (IsContiguous(tensor)) {
    return HashManyBytes(first, count * element_bytes);
  }
  std::vector<char> elements(count * element_bytes);
  std::vector<int64_t> index(tensor.sizes.size(), 0);
  for (size_t i = 0; i < count; ++i) {
    int64_t at = 0;
    for (size_t d = 0; d < index.size(); ++d) {
      at += index[d] * tensor.strides[d];
    }
    std::memcpy(elements.data() + i * element_bytes,
                first + at * static_cast<int64_t>(element_bytes),
                element_bytes);
    for (size_t d = index.size(); d-- > 0;) {
      if (++index[d] < tensor.sizes[d]) break;
      index[d] = 0;
    }
  }
  return HashManyBytes(elements.data(), elements.size());
}

}  // namespace

uint64_t Digest(const Message& message, bool with_elements) {
  uint64_t hash = HashCombine(static_cast<uint64_t>(message.type),
                              HashBytes(message.payload));
  for (const Tensor& tensor : message.tensors) {
    hash = HashCombine(hash, static_cast<uint64_t>(tensor.dtype));
    for (int64_t size : tensor.sizes) {
      hash = HashCombine(hash, static_cast<uint64_t>(size));
    }
    if (with_elements && CheckBounds(tensor).ok()) {
      hash = HashCombine(hash, HashElements(tensor));
    }
  }
  return hash == 0 ? 1 : hash;
}

}  // namespace reprise
