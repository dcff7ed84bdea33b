// Sweeps: one command line that means several explorations, by lists of
// schedules, of values of parameters, and of numbers of workers.

#ifndef REPRISE_TOOLS_COMMAND_SWEEP_H_
#define REPRISE_TOOLS_COMMAND_SWEEP_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/command/options.h"

namespace reprise {

// One exploration of a sweep.
struct Variant {
  // What tells it from the others: "pct steps=5"; empty if there are no others.
  std::string name;
  RunFlags run;  // with one schedule and one value for each parameter
};

// At most so many explorations may be meant.
inline constexpr size_t kMaxVariants = 1000;

// All combinations, in the order of the command line: schedules as
// "random,pct" or "all", values and numbers of workers as "5..10", "1,2,4" or
// "1..3,8". INVALID_ARGUMENT says what is wrong, also if a value is out of the
// parameter's range.
absl::StatusOr<std::vector<Variant>> ExpandSweep(const RunFlags& run);

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_SWEEP_H_
