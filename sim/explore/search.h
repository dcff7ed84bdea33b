// Searches the neighbourhood of a recorded failure for a run that fails again.
//
// After a change of the code a recording may no longer fit: the failure is
// still there, and its decisions land elsewhere. The search runs variants of
// the recording in turn:
//   renamed    threads or places that the run no longer has, under the labels
//              that are most like theirs;
//   shifted    counts and numbers of sections moved by up to 3, all decisions
//              or those of one place or section, or one alone;
//   dropped    each decision left out, then ever larger parts;
//   combined   all of that at random, with other stalls;
//   schedules  the same seed under other schedules;
//   seeds      other seeds, with the recorded faults and those that the
//              scenario draws.
// A failure that is not met in the neighbourhood may still exist.

#ifndef REPRISE_SIM_EXPLORE_SEARCH_H_
#define REPRISE_SIM_EXPLORE_SEARCH_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/explore/sim_run.h"

namespace reprise {

struct SearchOptions {
  // The recorded run: its scenario, seed, parameters and faults. `recording` is
  // ignored.
  SimRunOptions run;
  std::vector<Decision> decisions;
  // The rule that was violated. Empty: any rule is as good.
  std::string rule;
  double max_seconds = 10;  // of real time; the last run may exceed it
  int64_t max_variants = INT64_MAX;
  // Called about every two seconds, on the calling thread, with a line for
  // people.
  std::function<void(const std::string&)> progress;
};

struct SearchFinding {
  std::string how;  // "lock:CallTable shifted by -1"
  uint64_t seed = 0;
  RunResult run;  // with its events and decisions
};

struct SearchResult {
  int64_t variants = 0;
  std::map<std::string, int64_t> tried;  // by kind, as above
  double seconds = 0;
  // A variant that violates the rule, and else one that violates another rule.
  // The first ends the search.
  std::optional<SearchFinding> same;
  std::optional<SearchFinding> other;
};

// Blocks until it is done. `plain` is the run of the recording as it is, with
// its trace. An error means that the runs could not be set up.
absl::StatusOr<SearchResult> Search(const SearchOptions& options,
                                    const RunResult& plain);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_SEARCH_H_
