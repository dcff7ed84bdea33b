// Any bytes may be the tensor pickle of a message. They must not crash the
// reader, and a tensor that is accepted must lie inside its storage and be the
// same after it was written again.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/device/tensor.h"
#include "agent/wire/tensor_pickle.h"
#include "tests/fuzz/touch_corners.h"

namespace {

using reprise::Storage;
using reprise::Tensor;

void Require(bool condition) {
  if (!condition) std::abort();
}

void RequireSame(const Tensor& a, const Tensor& b) {
  Require(a.dtype == b.dtype && a.sizes == b.sizes && a.strides == b.strides &&
          a.storage_offset == b.storage_offset &&
          a.requires_grad == b.requires_grad && a.storage == b.storage);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::shared_ptr<Storage>> storages;
  for (size_t bytes : {24, 4096, 0, 400000}) {
    storages.push_back(*reprise::AllocateCpu(bytes));
  }
  const std::string_view pickle(reinterpret_cast<const char*>(data), size);
  auto tensors = reprise::UnpickleTensors(pickle, storages);
  if (!tensors.ok()) return 0;
  for (const Tensor& tensor : *tensors) {
    Require(CheckBounds(tensor).ok());
    TouchCorners(tensor);
    // Integers with a gradient can be read, but are not written.
    if (!CheckPicklable(tensor).ok()) return 0;
  }
  const reprise::TensorPickle again = reprise::PickleTensors(*tensors);
  auto same = reprise::UnpickleTensors(again.pickle, again.storages);
  Require(same.ok() && same->size() == tensors->size());
  for (size_t i = 0; i < same->size(); ++i) {
    RequireSame((*tensors)[i], (*same)[i]);
  }
  return 0;
}
