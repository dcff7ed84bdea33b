// The described tensors as PyTorch's.

#ifndef REPRISE_TESTS_INTEROP_STOCK_TENSORS_H_
#define REPRISE_TESTS_INTEROP_STOCK_TENSORS_H_

// Clang needs all of ivalue.h, of which the others only declare types.
#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <vector>

#include "tests/interop/message_spec.h"

namespace reprise::interop {

std::vector<at::Tensor> MakeStockTensors(const MessageSpec& message);

// The result points into the storages.
std::vector<ReceivedTensor> ViewStockTensors(
    const std::vector<at::Tensor>& tensors);

}  // namespace reprise::interop

#endif  // REPRISE_TESTS_INTEROP_STOCK_TENSORS_H_
