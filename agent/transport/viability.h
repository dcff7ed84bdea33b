// Why one of TensorPipe's transports or channels cannot work here: TensorPipe
// itself only says that it is not viable.

#ifndef REPRISE_AGENT_TRANSPORT_VIABILITY_H_
#define REPRISE_AGENT_TRANSPORT_VIABILITY_H_

#include <string>

namespace reprise {

// To be asked about a context whose `isViable()` is false; each goes through
// the checks that TensorPipe makes. Never empty. May throw what TensorPipe
// throws.
std::string WhyIbvIsNotViable();
std::string WhyCmaIsNotViable();

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_VIABILITY_H_
