// The digest of a message, by which the trace shows whether a message arrived
// byte for byte as it was sent.

#ifndef REPRISE_SIM_TRACE_DIGEST_H_
#define REPRISE_SIM_TRACE_DIGEST_H_

#include <cstdint>

#include "agent/message.h"

namespace reprise {

// The digest of the type, the payload, and the type, shape and elements of each
// tensor. Strides and storage do not matter. It is never 0. The elements of a
// tensor that is not on a CPU, or lies beyond the bounds of its storage, are
// left out; and all elements if not `with_elements`, since a tensor may be on a
// CPU at one end and on a GPU at the other.
uint64_t Digest(const Message& message, bool with_elements = true);

}  // namespace reprise

#endif  // REPRISE_SIM_TRACE_DIGEST_H_
