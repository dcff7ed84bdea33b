// Checks whether a run is a function of its seed. The seed is run again with
// another clock, with scattered heap addresses, after other seeds, and in a new
// process, and all runs must have the same events. What differs only under one
// of these depends on that one, and this is how the kind of leak is told. A
// scenario with foreign code is run in new processes only.

#ifndef REPRISE_SIM_EXPLORE_VERIFY_H_
#define REPRISE_SIM_EXPLORE_VERIFY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/explore/sim_run.h"
#include "sim/world/leak_watch.h"

namespace reprise {

struct VerifyOptions {
  SimRunOptions run;
  // The arguments with which this program runs the same seed in another process
  // ("run lifecycle --seed 7 ..."). `--trace` is added to them. If they are
  // empty, no other process is started, and a leak by random numbers is taken
  // for one by statics.
  std::vector<std::string> command;
};

struct VerifyResult {
  uint64_t hash = 0;
  // Empty if all runs were alike. Otherwise it says how the run that differs
  // was made, and the first event that differs is in the two below. These are
  // empty if a thread ran and changed nothing.
  std::string differs;
  std::string expected;
  std::string got;
  // What the run depends on, if it is not its seed.
  std::optional<LeakKind> leak;
  // Where it comes from, as far as it was seen: a function each.
  std::vector<std::string> places;
};

// FAILED_PRECONDITION in a build with ThreadSanitizer.
//
// On a thread that runs no world; no other thread of the process may work
// meanwhile, since that would be taken for one of the scenario.
absl::StatusOr<VerifyResult> Verify(const VerifyOptions& options);

// What to do about a leak of this kind, in a sentence.
std::string_view AdviceAbout(LeakKind kind);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_VERIFY_H_
