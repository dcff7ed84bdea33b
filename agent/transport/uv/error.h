// Errors of libuv in the form that TensorPipe's transports give them:
// "ECONNREFUSED: connection refused".

#ifndef REPRISE_AGENT_TRANSPORT_UV_ERROR_H_
#define REPRISE_AGENT_TRANSPORT_UV_ERROR_H_

#include <memory>

#include "tensorpipe/common/error.h"
#include "tensorpipe/transport/uv/error.h"

namespace reprise {

// `code` is an error code of libuv and not 0.
inline tensorpipe::Error UvErrorOf(int code) {
  return {std::make_shared<tensorpipe::transport::uv::UVError>(code), __FILE__,
          __LINE__};
}

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_ERROR_H_
