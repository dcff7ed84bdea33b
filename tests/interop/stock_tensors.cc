#include "tests/interop/stock_tensors.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace reprise::interop {
namespace {

// In the order of `kElementTypes`.
constexpr std::array<at::ScalarType, kElementTypes.size()> kTypes = {
    at::kByte,         at::kChar,          at::kShort, at::kInt,
    at::kLong,         at::kHalf,          at::kFloat, at::kDouble,
    at::kComplexFloat, at::kComplexDouble, at::kBool,  at::kBFloat16,
    at::kComplexHalf,
};

}  // namespace

std::vector<at::Tensor> MakeStockTensors(const MessageSpec& message) {
  std::vector<at::Tensor> storages;
  for (size_t i = 0; i < message.storage_bytes.size(); ++i) {
    const std::vector<char> bytes = StorageOf(message, i);
    storages.push_back(
        at::empty({static_cast<int64_t>(bytes.size())}, at::kByte));
    if (!bytes.empty()) {
      std::memcpy(storages.back().data_ptr(), bytes.data(), bytes.size());
    }
  }
  std::vector<at::Tensor> tensors;
  for (const TensorSpec& spec : message.tensors) {
    at::Tensor& tensor =
        tensors.emplace_back(at::empty({0}, kTypes[spec.type]));
    tensor.set_(storages[spec.storage].storage(), spec.offset, spec.sizes,
                spec.strides);
    if (spec.requires_grad) tensor.set_requires_grad(true);
  }
  return tensors;
}

std::vector<ReceivedTensor> ViewStockTensors(
    const std::vector<at::Tensor>& tensors) {
  std::vector<ReceivedTensor> views;
  for (const at::Tensor& tensor : tensors) {
    const auto* const type =
        std::find(kTypes.begin(), kTypes.end(), tensor.scalar_type());
    views.push_back({
        .type = static_cast<size_t>(type - kTypes.begin()),
        .sizes = tensor.sizes().vec(),
        .strides = tensor.strides().vec(),
        .offset = tensor.storage_offset(),
        .requires_grad = tensor.requires_grad(),
        .storage = static_cast<const char*>(tensor.storage().data()),
        .storage_bytes = tensor.storage().nbytes(),
    });
  }
  return views;
}

}  // namespace reprise::interop
