// Under AddressSanitizer, a tensor that lies beyond its storage is found.

#ifndef REPRISE_TESTS_FUZZ_TOUCH_CORNERS_H_
#define REPRISE_TESTS_FUZZ_TOUCH_CORNERS_H_

#include <cstddef>
#include <cstdint>

#include "agent/device/tensor.h"

namespace reprise {

// Writes to the first and to the last byte of the tensor's elements.
inline void TouchCorners(const Tensor& tensor) {
  if (tensor.num_elements() == 0) return;
  int64_t last = tensor.storage_offset;
  for (size_t i = 0; i < tensor.sizes.size(); ++i) {
    last += (tensor.sizes[i] - 1) * tensor.strides[i];
  }
  const size_t item = SizeOf(tensor.dtype);
  auto* const bytes = static_cast<volatile char*>(tensor.storage->data());
  bytes[tensor.storage_offset * item] = 1;
  bytes[(last + 1) * item - 1] = 1;
}

}  // namespace reprise

#endif  // REPRISE_TESTS_FUZZ_TOUCH_CORNERS_H_
