#include "tests/interop/our_tensors.h"

#include <algorithm>
#include <cstring>
#include <memory>

namespace reprise::interop {

std::vector<Tensor> MakeOurTensors(const MessageSpec& message) {
  std::vector<std::shared_ptr<Storage>> storages;
  for (size_t i = 0; i < message.storage_bytes.size(); ++i) {
    const std::vector<char> bytes = StorageOf(message, i);
    storages.push_back(AllocateCpu(bytes.size()).value());
    if (!bytes.empty()) {
      std::memcpy(storages.back()->data(), bytes.data(), bytes.size());
    }
  }
  std::vector<Tensor> tensors;
  for (const TensorSpec& spec : message.tensors) {
    Tensor& tensor = tensors.emplace_back();
    tensor.dtype = static_cast<DType>(spec.type);
    tensor.sizes = spec.sizes;
    tensor.strides = spec.strides;
    tensor.storage_offset = spec.offset;
    tensor.requires_grad = spec.requires_grad;
    tensor.storage = storages[spec.storage];
  }
  return tensors;
}

std::vector<ReceivedTensor> ViewOurTensors(const std::vector<Tensor>& tensors) {
  std::vector<ReceivedTensor> views;
  for (const Tensor& tensor : tensors) {
    views.push_back({
        .type =
            std::min(static_cast<size_t>(tensor.dtype), kElementTypes.size()),
        .sizes = tensor.sizes,
        .strides = tensor.strides,
        .offset = tensor.storage_offset,
        .requires_grad = tensor.requires_grad,
        .storage = static_cast<const char*>(tensor.storage->data()),
        .storage_bytes = tensor.storage->num_bytes(),
    });
  }
  return views;
}

}  // namespace reprise::interop
