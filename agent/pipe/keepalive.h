// One timer for all the pipes whose peers must show signs of life: an agent
// that is idle pays for one wake-up now and then, however many pipes it has.

#ifndef REPRISE_AGENT_PIPE_KEEPALIVE_H_
#define REPRISE_AGENT_PIPE_KEEPALIVE_H_

#include <cstddef>
#include <functional>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/timer.h"

namespace reprise {

// How much longer a peer may be silent while so many bytes are on their way to
// it or from it: what it says next comes behind them.
absl::Duration TimeToCarry(size_t num_bytes);

// Thread-safe. `Close` must be called before the timer is stopped.
class LifeWatch {
 public:
  // Looks at all pipes; returns when it wants to look again, or never. `late`:
  // this process was not running for a while, so silence means nothing yet.
  // Runs on the timer's thread.
  using Look = std::function<absl::Time(absl::Time now, bool late)>;

  LifeWatch(Runtime& runtime, Timer& timer, Look look);

  // Looks at `due`, or earlier.
  void Expect(absl::Time due);
  void Close();

 private:
  void Tick(absl::Time due);

  Runtime& runtime_;
  Timer& timer_;
  const Look look_;
  Mutex mutex_;
  std::optional<Timer::Key> key_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_PIPE_KEEPALIVE_H_
