// Many seeds of a scenario: find a failure, and prove that one could be found.

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
  // Of every `shards` seeds, the `shard`-th.
  uint64_t shards = 1;
  uint64_t shard = 0;
  int jobs = 1;             // OS threads
  bool keep_going = false;  // past the first failure
  double shrink_seconds = 10;
  // Told about twice in two seconds; on the calling thread.
  std::function<void(const std::string&)> progress;
};

struct ExploreFailure {
  ReplayFile replay;
  std::vector<std::string> story;
  // The run did not go the same way a second time: then `replay` is of no use.
  bool not_deterministic = false;
};

struct ExploreResult {
  int64_t seeds = 0;
  double wall_seconds = 0;
  double sim_seconds = 0;
  int64_t events = 0;
  int64_t decisions = 0;
  std::vector<ExploreFailure> failures;    // by seed
  std::map<std::string, int64_t> probes;   // seeds that reached each
  std::map<std::string, int64_t> strikes;  // seeds in which each struck
  // Probes and faults of the scenario that none of enough seeds saw.
  std::vector<std::string> unproved;
};

// Errors are of the set-up (a fault that cannot be read).
absl::StatusOr<ExploreResult> Explore(const ExploreOptions& options);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_EXPLORE_H_
