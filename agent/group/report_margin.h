// When to stop trying so as to have time before the deadline to tidy up and to
// report: a tenth of the time, at most one second.

#ifndef REPRISE_AGENT_GROUP_REPORT_MARGIN_H_
#define REPRISE_AGENT_GROUP_REPORT_MARGIN_H_

#include <algorithm>

#include "absl/time/time.h"

namespace reprise {

inline absl::Time BeforeReport(absl::Time now, absl::Time deadline) {
  if (deadline == absl::InfiniteFuture() || deadline <= now) return deadline;
  return deadline - std::min((deadline - now) / 10, absl::Seconds(1));
}

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_REPORT_MARGIN_H_
