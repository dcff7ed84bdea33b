// What an agent answers to the requests of PyTorch's RRefs, distributed
// autograd and profiler, which only a worker with PyTorch can serve.
//
// Those that want something are errors. But a stock worker of 1.13.1 never
// leaves its group if certain of its messages are answered by errors: an error
// in the place of a REMOTE_RET, or in that of an acknowledgement between the
// owners and users of an RRef, throws in a callback before the call is counted
// down, and its `rpc.shutdown()` waits for that count. And it sends a cleanup
// that fails 20 times more. So the messages that only keep the books are
// acknowledged: an RRef at one of our workers exists in name, has no value, and
// fetching it is the error.

#ifndef REPRISE_AGENT_PYTHON_PYTORCH_ONLY_H_
#define REPRISE_AGENT_PYTHON_PYTORCH_ONLY_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "agent/message.h"

namespace reprise {

// Nothing if `request` is of another type. `self` is our worker's name, for
// texts. Errors: UNIMPLEMENTED says what there is not; INVALID_ARGUMENT for a
// request whose parts cannot be read.
std::optional<absl::StatusOr<Message>> AnswerPyTorchOnly(
    const Message& request, const std::string& self);

}  // namespace reprise

#endif  // REPRISE_AGENT_PYTHON_PYTORCH_ONLY_H_
