// The barriers of a group, on the store, with the keys of PyTorch's agent
// (`shutdown/PROCESS_COUNT_ID_<n>`, `ACTIVE_CALLS_ID_<n>`, `READY_ID_<n>`), and
// one more for each member: `shutdown/ARRIVED_ID_<n>/<rank>`.
//
// Who arrives adds its count to ACTIVE_CALLS, records its arrival, and adds
// itself to PROCESS_COUNT; the last sets READY, for which all wait. The records
// are what upstream lacks:
//  - A member that comes again (it was restarted, or ran out of time and tries
//    again) is not counted twice.
//  - An addition that failed may have been done, so it is not repeated, and
//    PROCESS_COUNT may stay short, as it does when a member dies right before
//    it. Whoever waits looks at the records and sets READY when all are there.
//  - A member that does not come can be named.

#ifndef REPRISE_AGENT_GROUP_BARRIER_H_
#define REPRISE_AGENT_GROUP_BARRIER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/group/store_client.h"
#include "agent/group/worker_directory.h"
#include "agent/observer.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// One caller at a time. Holds no lock.
class Barrier {
 public:
  // `is_over` tells, between waits, whether the group has gone on without us.
  Barrier(Runtime& runtime, StoreClient& store, const WorkerDirectory& workers,
          Observer* observer, std::function<bool()> is_over);

  // Returns the sum of all members' counts, once all are in barrier `number`.
  // May be called again with the same number, after an error; what was
  // published stays. DEADLINE_EXCEEDED "barrier 3: 3 of 4 workers arrived;
  // missing: w3"; ABORTED when the barrier is over.
  absl::StatusOr<int64_t> Meet(int64_t number, int64_t count,
                               absl::Time deadline);

  // Deletes what this member has put in the store for barrier `number`; rank 0
  // deletes the counters too. Nobody may need the barrier any more.
  void Forget(int64_t number, absl::Time deadline);

 private:
  absl::StatusOr<int64_t> MeetUnobserved(int64_t number, int64_t count,
                                         absl::Time deadline);
  absl::Status Arrive(int64_t number, int64_t count, absl::Time deadline);
  absl::Status WaitUntilReady(int64_t number, absl::Time deadline);
  // The names of those that have no record, at most `limit`. Sets READY when
  // there are none.
  absl::StatusOr<std::vector<std::string>> FindMissing(int64_t number,
                                                       size_t limit,
                                                       absl::Time deadline);

  Runtime& runtime_;
  StoreClient& store_;
  const WorkerDirectory& workers_;
  Observer* const observer_;
  const std::function<bool()> is_over_;
  // Whose records of which barrier were seen.
  int64_t seen_number_ = 0;
  std::vector<bool> seen_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_BARRIER_H_
