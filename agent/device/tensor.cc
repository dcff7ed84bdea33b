#include "agent/device/tensor.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace reprise {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

// Returns false when a * b does not fit. Neither of them may be negative.
bool Multiply(int64_t a, int64_t b, int64_t* product) {
  return !__builtin_mul_overflow(a, b, product);
}

bool Add(int64_t a, int64_t b, int64_t* sum) {
  return !__builtin_add_overflow(a, b, sum);
}

std::string Shape(absl::Span<const int64_t> values) {
  return absl::StrCat("[", absl::StrJoin(values, ", "), "]");
}

}  // namespace

size_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kUInt8:
    case DType::kInt8:
    case DType::kBool:
    case DType::kFloat8E5M2:
    case DType::kFloat8E4M3FN:
    case DType::kFloat8E5M2FNUZ:
    case DType::kFloat8E4M3FNUZ:
    case DType::kFloat8E8M0FNU:
      return 1;
    case DType::kInt16:
    case DType::kFloat16:
    case DType::kBFloat16:
    case DType::kUInt16:
      return 2;
    case DType::kInt32:
    case DType::kFloat32:
    case DType::kUInt32:
    case DType::kComplex32:
      return 4;
    case DType::kInt64:
    case DType::kFloat64:
    case DType::kComplex64:
    case DType::kUInt64:
      return 8;
    case DType::kComplex128:
      return 16;
  }
  return 0;
}

std::string_view ToString(DType dtype) {
  switch (dtype) {
    case DType::kUInt8:
      return "uint8";
    case DType::kInt8:
      return "int8";
    case DType::kInt16:
      return "int16";
    case DType::kInt32:
      return "int32";
    case DType::kInt64:
      return "int64";
    case DType::kFloat16:
      return "float16";
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
    case DType::kComplex64:
      return "complex64";
    case DType::kComplex128:
      return "complex128";
    case DType::kBool:
      return "bool";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kComplex32:
      return "complex32";
    case DType::kUInt16:
      return "uint16";
    case DType::kUInt32:
      return "uint32";
    case DType::kUInt64:
      return "uint64";
    case DType::kFloat8E5M2:
      return "float8_e5m2";
    case DType::kFloat8E4M3FN:
      return "float8_e4m3fn";
    case DType::kFloat8E5M2FNUZ:
      return "float8_e5m2fnuz";
    case DType::kFloat8E4M3FNUZ:
      return "float8_e4m3fnuz";
    case DType::kFloat8E8M0FNU:
      return "float8_e8m0fnu";
  }
  return "unknown";
}

int64_t Tensor::num_elements() const {
  int64_t count = 1;
  bool fits = true;
  for (int64_t size : sizes) {
    if (size <= 0) return 0;
    if (fits) fits = Multiply(count, size, &count);
  }
  return fits ? count : kMax;
}

absl::StatusOr<Tensor> MakeTensor(DType dtype,
                                  absl::Span<const int64_t> sizes) {
  if (SizeOf(dtype) == 0) return absl::InvalidArgumentError("unknown dtype");
  Tensor tensor;
  tensor.dtype = dtype;
  tensor.sizes.assign(sizes.begin(), sizes.end());
  tensor.strides.resize(sizes.size());
  // As in PyTorch, a dimension without elements counts as one with one element.
  int64_t stride = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    tensor.strides[i] = stride;
    if (sizes[i] < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("negative size in ", Shape(sizes)));
    }
    if (!Multiply(stride, std::max<int64_t>(sizes[i], 1), &stride)) {
      return absl::InvalidArgumentError(
          absl::StrCat("sizes overflow: ", Shape(sizes)));
    }
  }
  int64_t num_bytes;
  if (!Multiply(tensor.num_elements(), static_cast<int64_t>(SizeOf(dtype)),
                &num_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("sizes overflow: ", Shape(sizes)));
  }
  auto storage = AllocateCpu(static_cast<size_t>(num_bytes));
  if (!storage.ok()) return storage.status();
  tensor.storage = *std::move(storage);
  return tensor;
}

absl::Status CheckBounds(const Tensor& tensor) {
  if (tensor.storage == nullptr) {
    return absl::InvalidArgumentError("tensor without a storage");
  }
  const size_t item_size = SizeOf(tensor.dtype);
  if (item_size == 0) {
    return absl::InvalidArgumentError("tensor of an unknown dtype");
  }
  if (tensor.sizes.size() != tensor.strides.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor with ", tensor.sizes.size(), " sizes and ",
                     tensor.strides.size(), " strides"));
  }
  if (tensor.storage_offset < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor with a negative storage offset: ", tensor.storage_offset));
  }
  // The product of all sizes that are not 0 must fit, so that no product of
  // some of them overflows.
  bool empty = false;
  int64_t count = 1;
  int64_t last = tensor.storage_offset;  // the last element that is viewed
  for (size_t i = 0; i < tensor.sizes.size(); ++i) {
    const int64_t size = tensor.sizes[i];
    const int64_t stride = tensor.strides[i];
    // PyTorch has no negative strides, and crashes on them.
    if (size < 0 || stride < 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor with a negative size or stride: sizes ", Shape(tensor.sizes),
          ", strides ", Shape(tensor.strides)));
    }
    if (size == 0) {
      empty = true;
      continue;
    }
    int64_t extent;
    if (!Multiply(count, size, &count) ||
        !Multiply(size - 1, stride, &extent) || !Add(last, extent, &last)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor whose sizes overflow: sizes ", Shape(tensor.sizes),
          ", strides ", Shape(tensor.strides)));
    }
  }
  const size_t capacity = tensor.storage->num_bytes() / item_size;
  if (!empty && static_cast<uint64_t>(last) >= capacity) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor out of the bounds of its storage of ", capacity,
                     " ", std::string(ToString(tensor.dtype)), ": sizes ",
                     Shape(tensor.sizes), ", strides ", Shape(tensor.strides),
                     ", offset ", tensor.storage_offset));
  }
  return absl::OkStatus();
}

}  // namespace reprise
