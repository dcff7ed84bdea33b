// The fourth payload of every message: the list of its tensors, as a pickle.
//
// It is byte for byte what libtorch writes, so that a stock PyTorch worker can
// read it. A received pickle is only a peer's claim, so every part of it is
// checked before it is used.

#ifndef REPRISE_AGENT_WIRE_TENSOR_PICKLE_H_
#define REPRISE_AGENT_WIRE_TENSOR_PICKLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "agent/device/tensor.h"
#include "agent/wire/pickle_tree.h"

namespace reprise {

struct TensorPickleLimits {
  PickleLimits pickle;
  size_t max_tensors = 65536;
  size_t max_dimensions = 64;
};

// The pickle of an empty list, which is always the same.
std::string_view EmptyTensorPickle();

// OK when a stock worker will survive `tensor` in a pickle: `CheckBounds`, not
// too many dimensions, and no gradient where PyTorch has none.
absl::Status CheckPicklable(const Tensor& tensor,
                            const TensorPickleLimits& limits = {});

struct TensorPickle {
  std::string pickle;
  // The storages to send beside the pickle, which calls them "0", "1", ...
  std::vector<std::shared_ptr<Storage>> storages;
  // For each tensor, the index of its storage.
  std::vector<size_t> storage_of_tensor;
};

// All tensors must pass `CheckPicklable`. Tensors of one storage share it at
// the receiver too, unless their types differ: a pickled storage has a type,
// and such a storage is sent once for each.
TensorPickle PickleTensors(absl::Span<const Tensor> tensors);

// One item of a pickled list: well-formed, but not checked against a storage.
struct TensorDescription {
  size_t storage_index = 0;
  DType dtype = DType::kFloat32;
  int64_t storage_elements = 0;
  Device source_device;
  int64_t storage_offset = 0;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  bool requires_grad = false;
};

// INVALID_ARGUMENT for what is not the pickle of a tensor list; UNIMPLEMENTED
// for tensors that are not supported (sparse, quantized, conjugated, other
// element types); RESOURCE_EXHAUSTED beyond the limits.
absl::StatusOr<std::vector<TensorDescription>> ParseTensorPickle(
    std::string_view pickle, const TensorPickleLimits& limits = {});

// The same, and makes the tensors over the storages that came with the pickle.
// INVALID_ARGUMENT when a tensor does not lie inside its storage.
absl::StatusOr<std::vector<Tensor>> UnpickleTensors(
    std::string_view pickle,
    absl::Span<const std::shared_ptr<Storage>> storages,
    const TensorPickleLimits& limits = {});

// The name that PyTorch's typed storages have ("Float" of "FloatStorage").
std::string_view StorageTypeName(DType dtype);

}  // namespace reprise

#endif  // REPRISE_AGENT_WIRE_TENSOR_PICKLE_H_
