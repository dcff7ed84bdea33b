// One timer that checks all pipes of an agent for signs of life of their peers:
// an idle agent pays for one wake-up now and then, however many pipes it has.
//
// A sign of life is a byte that arrives, at whatever rate and in the middle of
// whatever message. An end that waits for the other one to receive therefore
// hears from it: a client pings, and a server to which a message arrives sends
// pongs unasked, since it cannot read a ping behind that message. So nobody has
// to know how much of what was written has left, and a peer that stands still
// is dead within the bound however much its kernel still takes.

#ifndef REPRISE_AGENT_PIPE_KEEPALIVE_H_
#define REPRISE_AGENT_PIPE_KEEPALIVE_H_

#include <functional>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/timer.h"

namespace reprise {

// Thread-safe. `Close` must be called before the timer is stopped.
class Keepalive {
 public:
  // Checks all pipes; returns when it wants to check again, or never. `late`:
  // this process was not running for a while, so silence means nothing yet.
  // Runs on the timer's thread.
  using Check = std::function<absl::Time(absl::Time now, bool late)>;

  Keepalive(Runtime& runtime, Timer& timer, Check check);

  // Schedules a check for `due`, unless an earlier one is scheduled.
  void Expect(absl::Time due);
  void Close();

 private:
  void Tick(absl::Time due);

  Runtime& runtime_;
  Timer& timer_;
  const Check check_;
  Mutex mutex_;
  std::optional<Timer::Key> key_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_PIPE_KEEPALIVE_H_
