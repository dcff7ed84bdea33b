#include "agent/wire/tensor_copy.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace reprise {

bool IsWorthCopying(const Tensor& tensor) {
  constexpr size_t kMinBytes = size_t{8} * 1024;
  constexpr size_t kMinMultiple = 2;
  const size_t held = tensor.storage->num_bytes();
  // This divides because the size of an expanded tensor in bytes may overflow.
  return held >= kMinBytes && static_cast<uint64_t>(tensor.num_elements()) <=
                                  held / (kMinMultiple * SizeOf(tensor.dtype));
}

absl::StatusOr<Tensor> CopyContiguous(const Tensor& tensor) {
  auto copy = MakeTensor(tensor.dtype, tensor.sizes);
  if (!copy.ok()) return copy.status();
  copy->requires_grad = tensor.requires_grad;
  if (copy->num_elements() == 0) return copy;

  const size_t item = SizeOf(tensor.dtype);
  const char* const from = static_cast<const char*>(tensor.storage->data()) +
                           tensor.storage_offset * item;
  char* to = static_cast<char*>(copy->storage->data());
  // Trailing dimensions that are contiguous in the source make one run.
  size_t outer = tensor.sizes.size();
  int64_t run = 1;
  while (outer > 0 &&
         (tensor.strides[outer - 1] == run || tensor.sizes[outer - 1] == 1)) {
    run *= tensor.sizes[--outer];
  }
  std::vector<int64_t> index(outer);
  int64_t offset = 0;  // of the next run, in elements
  for (;;) {
    std::memcpy(to, from + offset * item, run * item);
    to += run * item;
    size_t dimension = outer;
    for (;; --dimension) {  // the last index changes fastest
      if (dimension == 0) return copy;
      const int64_t stride = tensor.strides[dimension - 1];
      offset += stride;
      if (++index[dimension - 1] < tensor.sizes[dimension - 1]) break;
      offset -= stride * index[dimension - 1];
      index[dimension - 1] = 0;
    }
  }
}

absl::StatusOr<std::shared_ptr<Storage>> CopyStorage(Storage& storage) {
  auto copy = AllocateCpu(storage.num_bytes());
  if (copy.ok() && storage.num_bytes() > 0) {
    std::memcpy((*copy)->data(), storage.data(), storage.num_bytes());
  }
  return copy;
}

}  // namespace reprise
