// Finds out why one of TensorPipe's transports or channels cannot work on this
// machine. TensorPipe itself only says that it is not viable.

#ifndef REPRISE_AGENT_TRANSPORT_VIABILITY_H_
#define REPRISE_AGENT_TRANSPORT_VIABILITY_H_

#include <string>

namespace reprise {

// To be called for a context whose `isViable()` is false. Each function repeats
// the checks that TensorPipe makes and returns the reason, which is never
// empty. It may throw what TensorPipe throws.
std::string WhyIbvIsNotViable();
std::string WhyCmaIsNotViable();

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_VIABILITY_H_
