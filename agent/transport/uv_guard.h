// Keeps what strangers send from TensorPipe's transport uv, which ends the
// process when it is no TensorPipe that speaks.
//
// TensorPipe is a shared library that calls another one, libuv. A program that
// this is linked into defines some of libuv's functions itself: for the streams
// of TensorPipe they do as `Doorman`, `AnswerReader` and `FailedConnect` say,
// for everybody else's, and after the first frames, what libuv does. What goes
// over the wire is TensorPipe's own.

#ifndef REPRISE_AGENT_TRANSPORT_UV_GUARD_H_
#define REPRISE_AGENT_TRANSPORT_UV_GUARD_H_

#include "absl/status/status.h"

namespace reprise {

// FAILED_PRECONDITION when TensorPipe calls libuv past the guard, as it does
// when this code is in a shared library and not in the program itself.
absl::Status UvGuardInPlace();

// While it lives, the uv contexts that this thread makes get `Callers::kLanes`
// for their listeners. Not nested.
class UvLanesScope {
 public:
  UvLanesScope();
  ~UvLanesScope();
  UvLanesScope(const UvLanesScope&) = delete;
  UvLanesScope& operator=(const UvLanesScope&) = delete;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_GUARD_H_
