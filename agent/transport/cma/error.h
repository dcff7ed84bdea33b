// Errors of the channel cma, as TensorPipe has them.

#ifndef REPRISE_AGENT_TRANSPORT_CMA_ERROR_H_
#define REPRISE_AGENT_TRANSPORT_CMA_ERROR_H_

#include <memory>
#include <string>
#include <utility>

#include "tensorpipe/common/error.h"

namespace reprise {

class CmaError final : public tensorpipe::BaseError {
 public:
  explicit CmaError(std::string text) : text_(std::move(text)) {}
  std::string what() const override { return "channel cma: " + text_; }

 private:
  const std::string text_;
};

inline tensorpipe::Error CmaErrorOf(std::string text) {
  return {std::make_shared<CmaError>(std::move(text)), __FILE__, __LINE__};
}

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CMA_ERROR_H_
