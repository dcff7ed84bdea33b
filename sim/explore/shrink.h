// Makes a failed run smaller while it violates the same rule.
//
// What is made smaller: the faults (fewer; then shorter, later and without a
// restart), the lines of the topology (fewer), the decisions (fewer; then
// shorter stalls), and the parameters that are sizes. The result is minimal if
// none of its faults, lines and decisions can be taken away alone. Where there
// are few decisions, no two of them can either.

#ifndef REPRISE_SIM_EXPLORE_SHRINK_H_
#define REPRISE_SIM_EXPLORE_SHRINK_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/explore/isolated_run.h"
#include "sim/explore/sim_run.h"
#include "sim/scenario/run_result.h"
#include "sim/scenario/scenario.h"

namespace reprise {

struct ShrinkOptions {
  // Those of the run that failed. If `recording` is null, its schedule may be
  // drawn again for smaller sizes.
  SimRunOptions run;
  // The parameters that are sizes, such as "calls", and the smallest value that
  // each may have.
  ScenarioParams smallest = {};
  // How to run. The results of equal options must be equal. An error counts as
  // a run that did not fail.
  std::function<absl::StatusOr<RunResult>(const SimRunOptions&)> runner =
      [](const SimRunOptions& run) { return RunIsolated(run); };
  // Whether a run fails as the first one did. Null: as signature.h says.
  std::function<bool(const RunResult&)> is_same = nullptr;
  double max_seconds = 30;  // of real time; one last run may exceed it
  // Called about once a second, on the calling thread, with a line for people.
  std::function<void(const std::string&)> progress = nullptr;
};

// The sizes of a scenario: what it says, and its workers where it allows fewer.
ScenarioParams SizesOf(const Scenario& scenario);

struct ShrinkResult {
  // The smallest run that was found, with its events and decisions.
  RunResult run;
  ScenarioParams params;
  int64_t runs = 0;
  double seconds = 0;
  // Whether it is minimal. If not, `stopped` says why: "stopped after 30 s, not
  // minimal".
  bool minimal = false;
  std::string stopped;
  // What has changed, a line each: "decisions: 612 to 4".
  std::vector<std::string> changes;
};

// `failed` is the run that `options` gave, with its decisions. Every run is
// bounded by twice the points and the virtual time of `failed`.
ShrinkResult Shrink(const ShrinkOptions& options, const RunResult& failed);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_SHRINK_H_
