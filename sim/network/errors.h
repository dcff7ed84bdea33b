// Errors of the simulated transport. Their texts are those of the transport uv
// ("EOF: end of file").

#ifndef REPRISE_SIM_NETWORK_ERRORS_H_
#define REPRISE_SIM_NETWORK_ERRORS_H_

#include "agent/transport/uv/error.h"
#include "tensorpipe/common/error_macros.h"
#include "tensorpipe/transport/error.h"
#include "uv.h"

namespace reprise {

inline tensorpipe::Error ConnectionClosed() {
  using tensorpipe::Error;  // for the macro
  return TP_CREATE_ERROR(tensorpipe::transport::ConnectionClosedError);
}

inline tensorpipe::Error ListenerClosed() {
  using tensorpipe::Error;
  return TP_CREATE_ERROR(tensorpipe::transport::ListenerClosedError);
}

}  // namespace reprise

#endif  // REPRISE_SIM_NETWORK_ERRORS_H_
