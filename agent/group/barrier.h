// The barriers of a group, which live in the store. The keys are those of
// PyTorch's agent (`shutdown/PROCESS_COUNT_ID_<n>`, `ACTIVE_CALLS_ID_<n>`,
// `READY_ID_<n>`), and one more for each member of ours:
// `shutdown/ARRIVED_ID_<n>/<rank>`.
//
// A member that arrives adds its count to ACTIVE_CALLS, records its arrival,
// and adds itself to PROCESS_COUNT. The last sets READY, for which all wait.
// PyTorch's agent keeps no records. They serve three ends:
//  - A member that comes again (it was restarted, or ran out of time and tries
//    again) is not counted twice.
//  - An addition that failed may have been done, so it is not repeated, and
//    PROCESS_COUNT may stay short, as it does when a member dies right before
//    it. A member that waits looks at the records, and sets READY when all are
//    there.
//  - A member that does not come can be named. Stock members leave no records:
//    how many of them have come follows from PROCESS_COUNT, and they are named
//    when all or none of them are missing.

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

  // Before the first barrier: what all keys begin with ("" for those of
  // PyTorch's agent), and which members are stock workers, by id.
  void UseKeys(std::string prefix, std::vector<bool> is_stock);

  // Returns the sum of all members' counts, once all are in barrier `number`.
  // May be called again with the same number, after an error; what was
  // published stays. DEADLINE_EXCEEDED "barrier 3: 3 of 4 workers arrived;
  // missing: w3"; ABORTED when the barrier is over.
  absl::StatusOr<int64_t> ExchangeCounts(int64_t number, int64_t count,
                                         absl::Time deadline);

  // Deletes what this member has put in the store for barrier `number`; rank 0
  // deletes the counters too. Nobody may need the barrier any more.
  void Forget(int64_t number, absl::Time deadline);

 private:
  absl::StatusOr<int64_t> ExchangeCountsUnobserved(int64_t number,
                                                   int64_t count,
                                                   absl::Time deadline);
  absl::Status Arrive(int64_t number, int64_t count, absl::Time deadline);
  absl::Status WaitUntilReady(int64_t number, absl::Time deadline);
  struct Missing {
    int64_t count = 0;
    std::vector<std::string> names;  // "one of a, b" where that is all we know
  };
  // Stops at the first that is missing unless `all`. Sets READY when all have a
  // record.
  absl::StatusOr<Missing> FindMissing(int64_t number, bool all,
                                      absl::Time deadline);
  // Adds the stock members that are missing, when `num_recorded` of ours have
  // come.
  absl::Status AddMissingStock(int64_t number, int64_t num_recorded,
                               Missing& missing, absl::Time deadline);

  std::string Key(std::string_view what, int64_t number) const;
  std::string ArrivedKey(int64_t number, WorkerId rank) const;

  Runtime& runtime_;
  StoreClient& store_;
  const WorkerDirectory& workers_;
  Observer* const observer_;
  const std::function<bool()> is_over_;
  std::string prefix_;
  std::vector<bool> is_stock_;
  // Whose records of which barrier were seen.
  int64_t seen_number_ = 0;
  std::vector<bool> seen_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_BARRIER_H_
