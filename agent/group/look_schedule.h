// When one who waits for others looks who is missing: several times before the
// deadline, the last of them with a tenth of the time left (one second at
// most), so that the news is there to report when the deadline comes.

#ifndef REPRISE_AGENT_GROUP_LOOK_SCHEDULE_H_
#define REPRISE_AGENT_GROUP_LOOK_SCHEDULE_H_

#include <algorithm>

#include "absl/time/time.h"

namespace reprise {

class LookSchedule {
 public:
  // `longest`: between two looks.
  LookSchedule(absl::Time now, absl::Time deadline, absl::Duration longest)
      : deadline_(deadline),
        last_look_(deadline -
                   std::min((deadline - now) / 10, absl::Seconds(1))),
        longest_(longest) {}

  // Until when to wait now: for a look if before the deadline.
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

#endif  // REPRISE_AGENT_GROUP_LOOK_SCHEDULE_H_
