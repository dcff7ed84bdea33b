// A wait that must report why it failed stops trying before its deadline: a
// tenth of its time before, at most one second. `BeforeReport` is that moment,
// and `LookSchedule` adds looks at who is missing before it.

#ifndef REPRISE_AGENT_GROUP_DEADLINE_MARGIN_H_
#define REPRISE_AGENT_GROUP_DEADLINE_MARGIN_H_

#include <algorithm>

#include "absl/time/time.h"

namespace reprise {

// When to stop trying, so that there is time left to tidy up and to report. A
// deadline that has passed, or that is infinite, has no margin.
inline absl::Time BeforeReport(absl::Time now, absl::Time deadline) {
  if (deadline == absl::InfiniteFuture() || deadline <= now) return deadline;
  return deadline - std::min((deadline - now) / 10, absl::Seconds(1));
}

// When a worker that waits for others looks who is missing: several times
// before the deadline, the last of them at `BeforeReport`, so that the answer
// is there when the deadline comes.
class LookSchedule {
 public:
  // `longest` is the longest time between two looks.
  LookSchedule(absl::Time now, absl::Time deadline, absl::Duration longest)
      : deadline_(deadline),
        last_look_(BeforeReport(now, deadline)),
        longest_(longest) {}

  // Returns until when to wait now. The next look is due then, unless that is
  // the deadline.
  absl::Time Next(absl::Time now) const {
    if (now >= last_look_) return deadline_;
    return std::min(last_look_,
                    now + std::min((deadline_ - now) / 2, longest_));
  }

 private:
  const absl::Time deadline_;
  const absl::Time last_look_;
  const absl::Duration longest_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_DEADLINE_MARGIN_H_
