// Calls and results as a stock PyTorch worker pickles them in Python, of
// tensors alone.

#ifndef REPRISE_TESTS_GPU_STOCK_PICKLE_H_
#define REPRISE_TESTS_GPU_STOCK_PICKLE_H_

#include <cstddef>
#include <string>

namespace reprise::gpu {

// The payload of a PYTHON_RET: a tuple of the message's tensors, of which there
// are at most 255.
std::string PickledTensors(size_t count);

// The payload of a PYTHON_CALL of `module`.`function` with those arguments.
std::string PickledCall(const std::string& module, const std::string& function,
                        size_t count);

}  // namespace reprise::gpu

#endif  // REPRISE_TESTS_GPU_STOCK_PICKLE_H_
