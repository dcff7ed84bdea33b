#include "agent/wire/tensor_copy.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace reprise {
namespace {

// The parts of a tensor that lie together, in the order of its elements.
class Runs {
 public:
  // Of a tensor with elements; without any there is one run, of them.
  explicit Runs(const Tensor& tensor)
      : tensor_(tensor),
        num_outer_(tensor.sizes.size()),
        offset_(tensor.storage_offset) {
    // Trailing dimensions that are contiguous in the source make one run.
    while (num_outer_ > 0 && (tensor.strides[num_outer_ - 1] == length_ ||
                              tensor.sizes[num_outer_ - 1] == 1)) {
      length_ *= tensor.sizes[--num_outer_];
    }
    index_.resize(num_outer_);
  }

  // Of the present run, in elements.
  int64_t offset() const { return offset_; }
  int64_t length() const { return length_; }

  // Goes to the next one. False when there is none.
  bool Next() {
    // The last index changes fastest.
    for (size_t dimension = num_outer_; dimension > 0; --dimension) {
      const int64_t stride = tensor_.strides[dimension - 1];
      offset_ += stride;
      if (++index_[dimension - 1] < tensor_.sizes[dimension - 1]) return true;
      offset_ -= stride * index_[dimension - 1];
      index_[dimension - 1] = 0;
    }
    return false;
  }

 private:
  const Tensor& tensor_;
  size_t num_outer_;
  int64_t length_ = 1;
  std::vector<int64_t> index_;
  int64_t offset_;
};

}  // namespace

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
  const char* const from = static_cast<const char*>(tensor.storage->data());
  char* to = static_cast<char*>(copy->storage->data());
  Runs runs(tensor);
  do {
    std::memcpy(to, from + runs.offset() * item, runs.length() * item);
    to += runs.length() * item;
  } while (runs.Next());
  return copy;
}

absl::StatusOr<std::optional<Tensor>> CopyContiguousOnGpu(
    const Tensor& tensor, Devices& devices, const StreamSet& streams) {
  const size_t item = SizeOf(tensor.dtype);
  Tensor copy = tensor;
  copy.storage_offset = 0;
  int64_t stride = 1;
  for (size_t i = copy.sizes.size(); i > 0; --i) {
    copy.strides[i - 1] = stride;
    stride *= std::max<int64_t>(copy.sizes[i - 1], 1);
  }
  Runs runs(tensor);
  if (tensor.num_elements() > kMaxGpuRuns * runs.length()) return std::nullopt;
  const Device& device = tensor.storage->device();
  auto storage =
      devices.Allocate(device, tensor.num_elements() * item, streams);
  if (!storage.ok()) return storage.status();
  copy.storage = *std::move(storage);
  if (tensor.num_elements() == 0) return copy;

  const GpuStream stream = streams.On(device.index);
  tensor.storage->RecordUse(stream);
  const char* const from = static_cast<const char*>(tensor.storage->data());
  char* to = static_cast<char*>(copy.storage->data());
  do {
    absl::Status status = devices.gpu_driver()->Copy(
        to, from + runs.offset() * item, runs.length() * item, stream);
    if (!status.ok()) return status;
    to += runs.length() * item;
  } while (runs.Next());
  return copy;
}

absl::StatusOr<std::shared_ptr<Storage>> CopyStorage(Storage& storage) {
  auto copy = AllocateCpu(storage.num_bytes());
  if (copy.ok() && storage.num_bytes() > 0) {
    std::memcpy((*copy)->data(), storage.data(), storage.num_bytes());
  }
  return copy;
}

}  // namespace reprise
