// Tells whether a worker that is in our way lives.

#ifndef REPRISE_AGENT_GROUP_PROBE_H_
#define REPRISE_AGENT_GROUP_PROBE_H_

#include <string>

#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "tensorpipe/core/context.h"

namespace reprise {

// Connects to `address`, says nothing, and goes away. True when that fails
// before `deadline`, as it does when nobody listens there; one that is silent
// may be alive. Blocks; not on a thread of TensorPipe's.
bool NobodyListensAt(Runtime& runtime, tensorpipe::Context& context,
                     const std::string& address, absl::Time deadline);

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_PROBE_H_
