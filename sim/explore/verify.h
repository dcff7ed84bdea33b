// Is a run a function of its seed? The same seed again: with the heap
// scattered, after other seeds and in another order, and in a fresh process.

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
  // The arguments that make this program run the same seed in another process
  // ("run lifecycle --seed 7 ..."); --trace is added. Empty: no other process
  // is started.
  std::vector<std::string> command;
};

struct VerifyResult {
  uint64_t hash = 0;
  // Empty when all were alike; else how the run that differed was made, and
  // the first event that did.
  std::string differs;
  std::string expected;
  std::string got;
};

absl::StatusOr<VerifyResult> Verify(const VerifyOptions& options);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_VERIFY_H_
