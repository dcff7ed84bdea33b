// A strided view of a storage: what a message carries.

#ifndef REPRISE_AGENT_DEVICE_TENSOR_H_
#define REPRISE_AGENT_DEVICE_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "agent/device/device.h"

namespace reprise {

// The types of elements, in an order that is only ours.
enum class DType {
  kUInt8,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kFloat16,
  kFloat32,
  kFloat64,
  kComplex64,
  kComplex128,
  kBool,
  kBFloat16,
  kComplex32,
  // Those that PyTorch 1.13 does not have (`IsLaterType`).
  kUInt16,
  kUInt32,
  kUInt64,
  kFloat8E5M2,
  kFloat8E4M3FN,
  kFloat8E5M2FNUZ,
  kFloat8E4M3FNUZ,
  kFloat8E8M0FNU,
};
inline constexpr size_t kNumDTypes =
    static_cast<size_t>(DType::kFloat8E8M0FNU) + 1;

// Whether only a later PyTorch than 1.13 has such tensors. A worker of 1.13
// ends its process when it is sent one.
constexpr bool IsLaterType(DType dtype) { return dtype >= DType::kUInt16; }

size_t SizeOf(DType dtype);
// PyTorch's name: "float32", "float8_e4m3fn".
std::string_view ToString(DType dtype);

// Element (i0, i1, ...) lies at storage element
// `storage_offset + i0*strides[0] + i1*strides[1] + ...`.
struct Tensor {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> sizes;    // elements per dimension
  std::vector<int64_t> strides;  // storage elements per step, by dimension
  int64_t storage_offset = 0;    // storage elements
  bool requires_grad = false;
  std::shared_ptr<Storage> storage;

  int64_t num_elements() const;
};

// A contiguous CPU tensor with memory of its own, uninitialised.
// INVALID_ARGUMENT for negative or overflowing sizes, RESOURCE_EXHAUSTED
// without memory.
absl::StatusOr<Tensor> MakeTensor(DType dtype, absl::Span<const int64_t> sizes);

// OK when every element of `tensor` lies inside its storage.
absl::Status CheckBounds(const Tensor& tensor);

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_TENSOR_H_
