// What the command prints: text for people, one JSON object for machines.

#ifndef REPRISE_TOOLS_COMMAND_REPORT_H_
#define REPRISE_TOOLS_COMMAND_REPORT_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"
#include "sim/scenario/run_result.h"

namespace reprise {

using Json = nlohmann::ordered_json;

std::string HashText(uint64_t hash);

// scenario seed outcome hash events decisions sim_seconds wall_seconds, and
// what was violated.
Json ToJson(const RunResult& result, std::string_view scenario, uint64_t seed);

// One object on standard output.
void PrintJson(const Json& json);

// A line on standard output, or on standard error.
void PrintLine(std::string_view line);
void PrintNotice(std::string_view line);

// Says what is wrong on standard error, and as {"error": ...} if `json`.
// Returns kUsage.
int UsageError(const absl::Status& status, bool json);

// The whole trace, a line an event.
absl::Status WriteTrace(const std::string& path, const RunResult& result);

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_REPORT_H_
