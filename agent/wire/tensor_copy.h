// Copies tensors before they are sent, where that is cheaper or necessary.
// Thread-safe as long as nobody writes to the tensors; nothing here throws.

#ifndef REPRISE_AGENT_WIRE_TENSOR_COPY_H_
#define REPRISE_AGENT_WIRE_TENSOR_COPY_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "agent/device/devices.h"
#include "agent/device/stream_set.h"
#include "agent/device/tensor.h"

namespace reprise {

// Whether `tensor`, which passes `CheckBounds`, views so little of so large a
// storage that sending a copy of it is cheaper: a storage of 8 KiB or more, at
// least twice what the tensor needs. PyTorch's thresholds.
bool IsWorthCopying(const Tensor& tensor);

// A contiguous tensor with the same elements, in memory of its own. `tensor` is
// on a CPU and passes `CheckBounds`.
absl::StatusOr<Tensor> CopyContiguous(const Tensor& tensor);

// The same on the tensor's GPU, by its stream in `streams`. Returns nothing
// when that would take more than `kMaxGpuRuns` copies.
inline constexpr int kMaxGpuRuns = 16;
absl::StatusOr<std::optional<Tensor>> CopyContiguousOnGpu(
    const Tensor& tensor, Devices& devices, const StreamSet& streams);

// The same bytes in memory that the result owns. `storage` is on a CPU.
absl::StatusOr<std::shared_ptr<Storage>> CopyStorage(Storage& storage);

}  // namespace reprise

#endif  // REPRISE_AGENT_WIRE_TENSOR_COPY_H_
