// Errors of the channels for GPUs, as TensorPipe has them.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_ERROR_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_ERROR_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "tensorpipe/common/error.h"

namespace reprise {

class GpuChannelError final : public tensorpipe::BaseError {
 public:
  explicit GpuChannelError(std::string text) : text_(std::move(text)) {}
  std::string what() const override { return "channel for GPUs: " + text_; }

 private:
  const std::string text_;
};

inline tensorpipe::Error GpuErrorOf(std::string text) {
  return {std::make_shared<GpuChannelError>(std::move(text)), __FILE__,
          __LINE__};
}

// No error if the status is OK.
inline tensorpipe::Error GpuErrorOf(const absl::Status& status) {
  if (status.ok()) return tensorpipe::Error::kSuccess;
  return GpuErrorOf(status.ToString());
}

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_ERROR_H_
