// Checks whether a run is a function of its seed. The seed is run again with
// scattered heap addresses, after other seeds, and in a new process, and all
// runs must give the same hash.

#ifndef REPRISE_SIM_EXPLORE_VERIFY_H_
#define REPRISE_SIM_EXPLORE_VERIFY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/explore/sim_run.h"

namespace reprise {

struct VerifyOptions {
  SimRunOptions run;
  // The arguments with which this program runs the same seed in another process
  // ("run lifecycle --seed 7 ..."). `--trace` is added to them. If they are
  // empty, no other process is started.
  std::vector<std::string> command;
};

struct VerifyResult {
  uint64_t hash = 0;
  // Empty if all runs were alike. Otherwise it says how the run that differs
  // was made, and the first event that differs is in the two below.
  std::string differs;
  std::string expected;
  std::string got;
};

absl::StatusOr<VerifyResult> Verify(const VerifyOptions& options);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_VERIFY_H_
