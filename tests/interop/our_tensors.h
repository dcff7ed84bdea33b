// The described tensors as ours.

#ifndef REPRISE_TESTS_INTEROP_OUR_TENSORS_H_
#define REPRISE_TESTS_INTEROP_OUR_TENSORS_H_

#include <vector>

#include "agent/device/tensor.h"
#include "tests/interop/message_spec.h"

namespace reprise::interop {

// Ends the process without memory.
std::vector<Tensor> MakeOurTensors(const MessageSpec& message);

// The result points into the storages.
std::vector<ReceivedTensor> ViewOurTensors(const std::vector<Tensor>& tensors);

}  // namespace reprise::interop

#endif  // REPRISE_TESTS_INTEROP_OUR_TENSORS_H_
