// Finds out whether a worker that is in our way still lives.

#ifndef REPRISE_AGENT_GROUP_LIVENESS_CHECK_H_
#define REPRISE_AGENT_GROUP_LIVENESS_CHECK_H_

#include <string>

#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/core/context.h"

namespace reprise {

// The result of one attempt to reach a worker at its address.
struct Liveness {
  enum class State {
    kDead,      // nobody listens there: the system at the other end said so
    kAnswered,  // an agent of this project listens there
    kSilent,    // there was neither an answer nor an error by the deadline
    // Anything else: no route, no descriptors of our own, a connection that
    // broke. It proves neither life nor death.
    kFailed,
  };
  State state = State::kFailed;
  std::string instance;  // of kAnswered: which run of the worker it is, or ""
  std::string cause;     // of kSilent and kFailed, for error texts
};

// Whether `error`, of a connection that is being opened, proves that nobody
// listens at its address: ECONNREFUSED, or ENOENT of a socket that has a path.
bool ProvesNobodyListens(const tensorpipe::Error& error);

// kYes asks the worker for its instance. Every agent of this project answers,
// and the check ends then. A stock worker must not be asked.
enum class AskInstance { kNo, kYes };

// Connects to `address`, looks until `deadline` what becomes of it, and goes
// away. Blocks; must not be called on a thread of TensorPipe's.
Liveness CheckLiveness(Runtime& runtime, tensorpipe::Context& context,
                       const std::string& address, AskInstance ask,
                       absl::Time deadline);

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_LIVENESS_CHECK_H_
