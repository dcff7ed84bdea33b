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

// The object of a run, as schema.json describes it. A run in processes has no
// hash, no decisions and no simulated time.
Json ToJson(const RunResult& result, std::string_view scenario, uint64_t seed,
            bool simulated = true);

// What a run came by, a line each: the faults that struck and those that never
// did, the probes, and the scratch directory that was kept.
std::vector<std::string> DescribeReach(const RunResult& result);

// ["cuda:0", "cuda:1"], or ["cpu"] for no GPUs.
Json GpusToJson(const std::vector<int>& gpus);

// Prints one object on standard output.
void PrintJson(const Json& json);

// Print a line on standard output, and on standard error.
void PrintLine(std::string_view line);
void PrintNotice(std::string_view line);

// Prints the stacks of a run whose process died, if there are any.
void PrintStacks(const std::vector<std::string>& stacks);

// Prints what is wrong: {"error": ...} on standard output if `json`, and a line
// on standard error. Returns kUsage.
int UsageError(const absl::Status& status, bool json);

// Where replay files and traces go if nobody says: the undeclared outputs of a
// test, or the present directory.
std::string DefaultOutDirectory();

// This program, for lines to paste: as it was typed, and from here if it is
// below the present directory.
std::string ProgramPath();

// That both cannot be written to standard output.
absl::Status TraceAndJson();

// Writes the whole trace, with a line for each event, to the file or, if it is
// "-", to standard output.
absl::Status WriteTrace(const std::string& path, const RunResult& result);

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_REPORT_H_
