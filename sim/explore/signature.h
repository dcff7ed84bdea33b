// What tells failures apart: the rule, and the detail without what differs from
// run to run.

#ifndef REPRISE_SIM_EXPLORE_SIGNATURE_H_
#define REPRISE_SIM_EXPLORE_SIGNATURE_H_

#include <string>
#include <string_view>

#include "sim/scenario/run_result.h"

namespace reprise {

// "deadlock: w#/main joins w#/timer": numbers and addresses are left out, and
// so is what follows the first 300 characters.
std::string SignatureOf(std::string_view rule, std::string_view detail);

// Whether `run` failed as `failed` did: by the same rule, and for a run that
// died by the same signature, since `crash` alone says little.
bool IsSameFailure(const RunResult& failed, const RunResult& run);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_SIGNATURE_H_
