// Explores a scenario: runs it under many seeds, makes each failure small, and
// judges whether a failure could have been found at all, that is, whether all
// coverage probes were reached and all kinds of fault struck.
//
// Runs are made in child processes (seed_pool.h), so a run that crashes or
// hangs is a failure like any other. Failures that look alike (signature.h) are
// one group, of which the first is looked into. The result does not depend on
// the number of jobs.

#ifndef REPRISE_SIM_EXPLORE_EXPLORE_H_
#define REPRISE_SIM_EXPLORE_EXPLORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/explore/replay_file.h"
#include "sim/explore/sim_run.h"

namespace reprise {

// A group of failures: the first of them, made small, and the other seeds.
struct ExploreFailure {
  ReplayFile replay;
  std::vector<std::string> story;
  std::vector<std::string> stacks;  // if its process died: a line a frame
  // Why the failure is not minimal; empty if it is.
  std::string not_minimal;
  // The run went another way the second time, so `replay` is of no use.
  bool not_deterministic = false;
  std::string signature;
  int64_t count = 1;  // of seeds
  // The seeds but for the first; at most 1,000 are kept.
  std::vector<uint64_t> other_seeds;
};

struct ExploreOptions {
  SimRunOptions run;  // of each seed; `seed` is ignored
  std::string schedule_name;
  std::string plant;  // for the replay files
  uint64_t first_seed = 1;
  uint64_t num_seeds = 100;
  // Only the `shard`-th of every `shards` seeds is run.
  uint64_t shards = 1;
  uint64_t shard = 0;
  int jobs = 1;             // processes at a time
  bool keep_going = false;  // after the first failure
  double max_seconds = 0;   // of real time, without the shrinking; 0: no bound
  double shrink_seconds = 30;  // for each failure, of real time
  bool whole_story = false;    // of failures, and not what matters most
  // Called on the calling thread about once a second, with a line for people.
  std::function<void(const std::string&)> progress;
  // Called as soon as a group has its first failure, and again when that has
  // been made smaller. Until it returns no further seed begins under one job.
  // An error ends the exploration.
  std::function<absl::Status(const ExploreFailure&)> found;
  // Asked some ten times a second: whether to stop and to return what there is.
  std::function<bool()> interrupted;
};

struct ExploreResult {
  int64_t seeds = 0;
  double wall_seconds = 0;
  double sim_seconds = 0;
  int64_t events = 0;
  int64_t decisions = 0;
  int64_t failed_seeds = 0;
  std::vector<ExploreFailure> failures;  // a group each, by its first seed
  // Why not all seeds were run, for people; empty if they were, or if the first
  // failure ended the exploration.
  std::string stopped;
  bool was_interrupted = false;
  // The number of seeds that reached each coverage probe, and in which each
  // kind of fault struck.
  std::map<std::string, int64_t> probes;
  std::map<std::string, int64_t> injections;
  // The coverage probes and faults of the scenario that were seen in none of
  // enough seeds, a line for each. If there are any, the exploration is
  // inconclusive.
  std::vector<std::string> unproved;
};

// Blocks until it is done. The calling process should have one thread. An error
// means that the runs could not be set up, for example because a fault line is
// wrong; failures are in the result.
absl::StatusOr<ExploreResult> Explore(const ExploreOptions& options);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_EXPLORE_H_
