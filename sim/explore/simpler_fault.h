// Simpler forms of a fault line, for the shrinker.

#ifndef REPRISE_SIM_EXPLORE_SIMPLER_FAULT_H_
#define REPRISE_SIM_EXPLORE_SIMPLER_FAULT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace reprise {

// The lines that differ from `line` in one step and are simpler: without
// `restart`, shorter in what lasts, or later in when it begins (closer to
// `end_ns`, the time of the run at which the rule was violated). The largest
// steps come first. Taking one form after the other ends after some 40 steps.
// `line` must be a fault line; no state, safe on any thread.
std::vector<std::string> SimplerFaults(std::string_view line, int64_t end_ns);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_SIMPLER_FAULT_H_
