// Recordings that are like a given one: what `Search` tries of them.
//
// Each function is pure, and may be called on any thread.

#ifndef REPRISE_SIM_EXPLORE_RECORDING_VARIANTS_H_
#define REPRISE_SIM_EXPLORE_RECORDING_VARIANTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "sim/scenario/run_result.h"
#include "sim/world/decision.h"

namespace reprise {

struct RecordingVariant {
  std::string kind;  // "renamed", "shifted" or "dropped"
  std::string how;   // for people
  std::vector<Decision> decisions;
};

// The variants that are finite in number, the likeliest first. `plain` is the
// run of the recording as it is; it says which labels there are.
std::vector<RecordingVariant> RecordingVariants(
    const std::vector<Decision>& decisions, const RunResult& plain);

// The `number`-th variant at random, with shifted, dropped and changed
// decisions.
std::vector<Decision> CombinedVariant(const std::vector<Decision>& decisions,
                                      uint64_t number);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_RECORDING_VARIANTS_H_
