// `tensorpipe::Device::toString`, for TensorPipe's own calls of it.
//
// TensorPipe hashes devices by that text, many times for each message. The
// function in its header makes a std::stringstream each time, which takes a
// tenth of the time of a run. The executable's symbol comes first, so
// TensorPipe calls this function instead. The text is the same.

#include <string>

#include "tensorpipe/common/device.h"

namespace reprise {

// `asm`: a member that is inline in a header cannot be defined again in C++.
std::string DeviceName(const tensorpipe::Device& device) asm(
    "_ZNK10tensorpipe6Device8toStringB5cxx11Ev");

std::string DeviceName(const tensorpipe::Device& device) {
  std::string name = device.type;
  name += ':';
  name += std::to_string(device.index);
  return name;
}

}  // namespace reprise
