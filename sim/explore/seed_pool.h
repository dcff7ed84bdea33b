// Runs seeds in child processes, and gives their results in the order of the
// seeds.
//
// Each batch of seeds has a process of its own, and batches do not depend on
// the number of jobs, so results do not either. A process ends at the first of
// its seeds that fails, whether it died or not, and the rest of its batch gets
// another one, so that no run comes after one that failed. A scenario with
// foreign code has a process for each seed.

#ifndef REPRISE_SIM_EXPLORE_SEED_POOL_H_
#define REPRISE_SIM_EXPLORE_SEED_POOL_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "sim/explore/child_process.h"
#include "sim/explore/sim_run.h"

namespace reprise {

struct SeedResult {
  uint64_t index = 0;
  uint64_t seed = 0;
  // The first seed that ran in the same process.
  uint64_t first_seed_of_process = 0;
  RunResult run;  // without events and decisions
};

// Not thread-safe.
class SeedPool {
 public:
  using SeedOf = std::function<uint64_t(uint64_t index)>;

  // Runs the seeds of the indices 0 to `num_seeds` - 1 in at most `jobs`
  // processes at a time, with the rest of `run`.
  SeedPool(const SimRunOptions& run, uint64_t num_seeds, SeedOf seed_of,
           int jobs);
  SeedPool(const SeedPool&) = delete;
  SeedPool& operator=(const SeedPool&) = delete;
  ~SeedPool();  // ends the processes

  // Starts what can be started, and waits until a process has ended, at most
  // for a tenth of a second. An error means that runs cannot be set up, or
  // CANCELLED that somebody ended a process.
  absl::Status Step();

  // The next result, if it is there.
  std::optional<SeedResult> Next();
  // Whether `Next` has given all results.
  bool is_done() const { return next_result_ == num_seeds_; }

 private:
  struct Range {
    uint64_t begin;
    uint64_t end;
  };
  struct Batch {
    Range range;
    uint64_t position;  // the index whose result comes next
    std::unique_ptr<ChildProcess> child;
  };

  std::optional<Range> NextRange();
  absl::Status Start(Range range);
  void RunInChild(Range range, SharedLog& log) const;
  absl::Status Read(Batch& batch);
  absl::Status Finish(Batch& batch);
  absl::Status RunHere();
  void Add(const Batch& batch, RunResult result);

  const SimRunOptions run_;
  const uint64_t num_seeds_;
  const SeedOf seed_of_;
  const size_t jobs_;
  const uint64_t batch_size_;
  std::deque<Range> rests_;  // of batches that ended early, before new ones
  uint64_t next_batch_ = 0;
  std::vector<Batch> batches_;
  std::map<uint64_t, SeedResult> results_;  // by index
  uint64_t next_result_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_SEED_POOL_H_
