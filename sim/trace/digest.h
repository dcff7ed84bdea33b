// A digest of what a message carries, so that "byte for byte" can be checked
// from the trace.

#ifndef REPRISE_SIM_TRACE_DIGEST_H_
#define REPRISE_SIM_TRACE_DIGEST_H_

#include <cstdint>

#include "agent/message.h"

namespace reprise {

// Of type, payload, and every tensor's type, shape and elements, whatever its
// strides and storage. Never 0. CPU tensors within their bounds only.
uint64_t Digest(const Message& message);

}  // namespace reprise

#endif  // REPRISE_SIM_TRACE_DIGEST_H_
