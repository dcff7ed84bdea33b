// Converts between absl::Status and the texts by which PyTorch's agents tell
// errors apart.
//
// A reply of type EXCEPTION carries a text and nothing else. Ours is
//   "Error on Node <id>: <what>"
// where <what> is the status's message, after its code and ": " unless the code
// is UNKNOWN, which is what a stock worker's exceptions are. Errors that a
// caller finds out itself (a timeout, a lost connection) start with
//   "RPCErr:<type>:"
// A request that a server refused, so that its handler did not run for it, is
// answered with
//   "Refused by Node <id>: <CODE>: <what>"

#ifndef REPRISE_AGENT_WIRE_RPC_ERROR_H_
#define REPRISE_AGENT_WIRE_RPC_ERROR_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace reprise {

enum class RpcErrorType {
  kUnknown = 0,
  kTimeout = 1,
  kIntentionalFailure = 2,
};

// "RPCErr:<type>:<text>"
std::string MakeRpcError(RpcErrorType type, std::string_view text);

// The type, only if `text` starts with the prefix: a text of the user's that
// mentions one somewhere is no such error.
RpcErrorType ParseRpcErrorType(std::string_view text);

// With the text of `MakeRpcError`, and DEADLINE_EXCEEDED for a timeout,
// UNAVAILABLE for an intentional failure, else UNKNOWN.
absl::Status RpcErrorStatus(RpcErrorType type, std::string_view text);

// What a worker answers when a request failed. `error` is not OK, and of the
// handler unless `IsRefusedByAgent`.
std::string ExceptionPayload(int64_t node_id, const absl::Status& error);

// The same for a request whose handler was not run.
std::string RefusalPayload(int64_t node_id, const absl::Status& refusal);

// What the caller gets of such an answer, never OK. The message is the whole
// payload; the code is that of the "RPCErr" type or the one that the payload
// names in the place above, else UNKNOWN. Its `CallError` names the remote
// agent or the remote handler.
absl::Status StatusFromException(std::string_view payload);

}  // namespace reprise

#endif  // REPRISE_AGENT_WIRE_RPC_ERROR_H_
