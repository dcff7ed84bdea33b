// The pauses between the polls of a call of a store.

#ifndef REPRISE_AGENT_STORE_BACKOFF_H_
#define REPRISE_AGENT_STORE_BACKOFF_H_

#include <algorithm>

#include "absl/time/time.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Each pause is twice the one before, from `first` to `longest`.
class Backoff {
 public:
  Backoff(Runtime& runtime, absl::Duration first, absl::Duration longest,
          absl::Time deadline)
      : runtime_(runtime),
        longest_(longest),
        deadline_(deadline),
        pause_(first) {}

  // Returns false at once if the deadline has passed.
  bool Pause() {
    const absl::Time now = runtime_.Now();
    if (now >= deadline_) return false;
    runtime_.SleepUntil(std::min(now + pause_, deadline_));
    pause_ = std::min(2 * pause_, longest_);
    return true;
  }

 private:
  Runtime& runtime_;
  const absl::Duration longest_;
  const absl::Time deadline_;
  absl::Duration pause_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_BACKOFF_H_
