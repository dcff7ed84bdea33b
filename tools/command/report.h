// What the command prints: text for people, or one JSON object for programs.

#ifndef REPRISE_TOOLS_COMMAND_REPORT_H_
#define REPRISE_TOOLS_COMMAND_REPORT_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"
#include "sim/scenario/run_result.h"

namespace reprise {

using Json = nlohmann::ordered_json;

std::string HashText(uint64_t hash);

// The keys are scenario, seed, outcome, hash, events, decisions, sim_seconds,
// wall_seconds, faults, strikes and probes, and rule and detail if a rule was
// violated.
Json ToJson(const RunResult& result, std::string_view scenario, uint64_t seed);

// ["cuda:0", "cuda:1"], or ["cpu"] for no GPUs.
Json GpusToJson(const std::vector<int>& gpus);

// Prints one object on standard output.
void PrintJson(const Json& json);

// Print a line on standard output, and on standard error.
void PrintLine(std::string_view line);
void PrintNotice(std::string_view line);

// Prints what is wrong on standard error, and {"error": ...} on standard output
// if `json`. Returns kUsage.
int UsageError(const absl::Status& status, bool json);

// Writes the whole trace, with a line for each event.
absl::Status WriteTrace(const std::string& path, const RunResult& result);

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_REPORT_H_
