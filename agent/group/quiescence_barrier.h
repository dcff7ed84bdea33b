// `Agent::Join`: all members meet until nothing runs anywhere at one moment.
//
// A round is two barriers, as in PyTorch's agent. Each member waits until
// nothing of its own runs, looks at its activity, meets all others (1), looks
// again, and meets them with a count (2): what runs now, and one more if
// anything was started since the first look. If all counts are 0, then nothing
// ran anywhere at the moment when the last member came to (1), since that
// moment lies between the two looks of every member. Otherwise there is another
// round. Unlike PyTorch's agent, this holds no lock over a round.

#ifndef REPRISE_AGENT_GROUP_QUIESCENCE_BARRIER_H_
#define REPRISE_AGENT_GROUP_QUIESCENCE_BARRIER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/activity.h"
#include "agent/group/barrier.h"
#include "agent/group/store_client.h"
#include "agent/group/worker_directory.h"
#include "agent/observer.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Thread-safe: a second caller at a time is refused.
class QuiescenceBarrier {
 public:
  QuiescenceBarrier(Runtime& runtime, StoreClient& store,
                    const WorkerDirectory& workers, Activity& activity,
                    Observer* observer);

  // As `Barrier::UseKeys`, before the first `Join`.
  void UseKeys(std::string prefix, std::vector<bool> is_stock);

  // A join that ran out of time is taken up where it stopped by the next call.
  // `stay_together`: nobody is let out before all know that nothing runs.
  absl::Status Join(bool stay_together, absl::Time deadline);

  // Makes a running `Join` fail soon, waits for it to return, and refuses more.
  void Stop();

 private:
  enum class Phase { kGather, kCount, kRelease, kDone };

  absl::Status Run(bool stay_together, absl::Time deadline);
  absl::Status Step(bool stay_together);
  absl::Status WaitUntilQuiet();
  absl::StatusOr<int64_t> ExchangeCounts(int64_t count);
  // Whether the group has left this join without us: we were restarted and go
  // through the joins again.
  bool IsOver();
  void ForgetPreviousJoins();

  Runtime& runtime_;
  StoreClient& store_;
  const WorkerDirectory& workers_;
  Activity& activity_;
  Barrier barrier_;
  std::string joined_key_;

  // Used by the one `Join` that runs.
  absl::Time deadline_;
  Phase phase_ = Phase::kGather;
  bool looked_ = false;  // the first look of this round was taken
  uint64_t started_before_ = 0;
  int64_t join_ = 1;
  int64_t next_barrier_ = 1;
  int64_t first_barrier_ = 1;    // of this join
  int64_t first_to_forget_ = 1;  // of the barriers before it
  int64_t after_joined_ = 1;

  Mutex mutex_;
  CondVar changed_;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_QUIESCENCE_BARRIER_H_
