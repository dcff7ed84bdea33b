// Explores a scenario: runs it under many seeds, makes each failure small, and
// judges whether a failure could have been found at all, that is, whether all
// coverage probes were reached and all kinds of fault struck.

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

struct ExploreOptions {
  SimRunOptions run;  // of each seed; `seed` is ignored
  std::string schedule_name;
  std::string plant;  // for the replay files
  uint64_t first_seed = 1;
  uint64_t num_seeds = 100;
  // Only the `shard`-th of every `shards` seeds is run.
  uint64_t shards = 1;
  uint64_t shard = 0;
  int jobs = 1;                // OS threads
  bool keep_going = false;     // after the first failure
  bool whole_story = false;  // of failures, and not what matters most
  double shrink_seconds = 30;  // for each failure, of real time
  // Called on the calling thread about once a second, with a line for people.
  std::function<void(const std::string&)> progress;
};

struct ExploreFailure {
  ReplayFile replay;
  std::vector<std::string> story;
  // Why the failure is not minimal; empty if it is.
  std::string not_minimal;
  // The run went another way the second time, so `replay` is of no use.
  bool not_deterministic = false;
};

struct ExploreResult {
  int64_t seeds = 0;
  double wall_seconds = 0;
  double sim_seconds = 0;
  int64_t events = 0;
  int64_t decisions = 0;
  std::vector<ExploreFailure> failures;  // by seed
  // The number of seeds that reached each coverage probe, and in which each
  // kind of fault struck.
  std::map<std::string, int64_t> probes;
  std::map<std::string, int64_t> injections;
  // The coverage probes and faults of the scenario that were seen in none of
  // enough seeds, a line for each. If there are any, the exploration is
  // inconclusive.
  std::vector<std::string> unproved;
};

// Blocks until it is done. An error means that the runs could not be set up,
// for example because a fault line is wrong; failures are in the result.
absl::StatusOr<ExploreResult> Explore(const ExploreOptions& options);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_EXPLORE_H_
