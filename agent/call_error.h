// Who failed when a call failed, and whether another attempt may go better.
//
//   if (std::optional<CallError> error = CallErrorOf(future.status())) {
//     if (error->source == CallErrorSource::kRemoteHandler) ...
//   }
//
// The detail is a payload of the status, so it travels wherever the status is
// copied to, and a log shows it behind the text. Every status of a call that
// an agent completes has one; a status of the user's has none.

#ifndef REPRISE_AGENT_CALL_ERROR_H_
#define REPRISE_AGENT_CALL_ERROR_H_

#include <optional>
#include <string_view>

#include "absl/status/status.h"

namespace reprise {

enum class CallErrorSource {
  // This process: a bad argument, a limit of ours, a cancellation, our own
  // shutdown.
  kCaller,
  // The connection, or the way to it: the peer is down, unreachable or silent.
  kTransport,
  // The peer's agent: it refused the request without running the handler, or
  // its answer cannot be read.
  kRemoteAgent,
  // The peer's handler ran and answered with an error.
  kRemoteHandler,
  // Nobody said anything before the deadline of the call.
  kDeadline,
};

// "caller", "transport", "remote agent", "remote handler", "deadline".
std::string_view ToString(CallErrorSource source);

struct CallError {
  CallErrorSource source = CallErrorSource::kCaller;
  // Whether the handler may have run. False only when it is known that it has
  // not and will not.
  bool may_have_run = true;
  // Whether the same request may succeed when it is sent again, later.
  bool retry_may_help = false;

  friend bool operator==(const CallError&, const CallError&) = default;
};

// Nothing when `status` is OK or does not come from a call.
std::optional<CallError> CallErrorOf(const absl::Status& status);

// `status` with this detail; unchanged when it is OK or has one already: the
// place that is nearest to the cause knows best.
absl::Status WithCallError(absl::Status status, const CallError& error);

// The same, and a retry may help after UNAVAILABLE, RESOURCE_EXHAUSTED and
// DEADLINE_EXCEEDED of anything but the remote handler.
absl::Status WithCallError(absl::Status status, CallErrorSource source,
                           bool may_have_run = true);

// Whether another attempt may go better. Of a status without a detail the code
// decides, as above.
bool RetryMayHelp(const absl::Status& status);

// `from`'s detail, if any, on `to`.
absl::Status CopyCallError(const absl::Status& from, absl::Status to);

// `status` of the call with this `CallOptions::label`: "<text> (call push)".
// Unchanged when it is OK, when the label is empty, and when its text ends so
// already.
absl::Status WithLabel(absl::Status status, std::string_view label);

// At the called side, for the agent itself: an answer in place of the handler,
// which has not run. The caller sees it as an error of the remote agent.
absl::Status RefusedByAgent(absl::Status status);
bool IsRefusedByAgent(const absl::Status& status);

}  // namespace reprise

#endif  // REPRISE_AGENT_CALL_ERROR_H_
