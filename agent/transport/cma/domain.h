// Whether this process and another one can read each other's memory with
// process_vm_readv.

#ifndef REPRISE_AGENT_TRANSPORT_CMA_DOMAIN_H_
#define REPRISE_AGENT_TRANSPORT_CMA_DOMAIN_H_

#include <string>

#include "absl/status/statusor.h"

namespace reprise {

// What TensorPipe's channel cma calls its device descriptor, byte for byte: two
// processes can read each other's memory if theirs are equal. UNAVAILABLE, with
// the reason, when no other process could read this one's. Does not throw.
absl::StatusOr<std::string> CmaDomain();

// Lets other processes of this user read this one's memory where the Linux
// security module Yama asks for that, as TensorPipe does. UNAVAILABLE.
absl::Status AllowCmaPeers();

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CMA_DOMAIN_H_
