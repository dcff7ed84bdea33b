#include "tools/command/report.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "sim/explore/replay_file.h"
#include "tools/command/command.h"

namespace reprise {

std::string HashText(uint64_t hash) { return absl::StrFormat("%016x", hash); }

Json ToJson(const RunResult& result, std::string_view scenario, uint64_t seed,
            bool simulated) {
  Json json;
  json["scenario"] = std::string(scenario);
  json["seed"] = seed;
  json["outcome"] = result.held() ? "held" : "violated";
  if (!result.held()) {
    json["rule"] = result.rule;
    json["detail"] = result.detail;
  }
  if (!result.stacks.empty()) json["stacks"] = result.stacks;
  if (simulated) json["hash"] = HashText(result.hash);
  json["events"] = result.num_events;
  if (simulated) {
    json["decisions"] = result.num_decisions;
    json["sim_seconds"] = result.sim_seconds;
  }
  json["wall_seconds"] = result.wall_seconds;
  json["faults"] = result.faults;
  if (simulated) json["topology"] = result.topology;
  json["strikes"] = Json::object();
  for (const auto& [kind, times] : result.injections) {
    json["strikes"][kind] = times;
  }
  json["never_struck"] = result.never_struck;
  json["probes"] = Json::array();
  for (const std::string& probe : result.probes) {
    json["probes"].push_back(probe);
  }
  if (!result.scratch_directory.empty()) {
    json["scratch_directory"] = result.scratch_directory;
  }
  return json;
}

std::vector<std::string> DescribeReach(const RunResult& result) {
  std::vector<std::string> lines;
  if (!result.injections.empty()) {
    lines.push_back("struck: " +
                    absl::StrJoin(result.injections, ", ",
                                  [](std::string* out, const auto& entry) {
                                    absl::StrAppend(out, entry.first, " ",
                                                    entry.second);
                                  }));
  }
  for (const std::string& fault : result.never_struck) {
    lines.push_back("never struck: " + fault);
  }
  if (!result.probes.empty()) {
    lines.push_back("reached: " + absl::StrJoin(result.probes, ", "));
  }
  if (!result.scratch_directory.empty()) {
    lines.push_back("its files: " + result.scratch_directory);
  }
  return lines;
}

Json GpusToJson(const std::vector<int>& gpus) {
  Json names = Json::array();
  if (gpus.empty()) names.push_back("cpu");
  for (const int gpu : gpus) names.push_back(absl::StrCat("cuda:", gpu));
  return names;
}

void PrintJson(const Json& json) {
  // Bytes that are not UTF-8, as in a peer's error text, must not end the
  // process.
  const std::string text =
      json.dump(2, ' ', false, Json::error_handler_t::replace);
  PrintLine(text);
}

void PrintLine(std::string_view line) {
  std::printf("%.*s\n", static_cast<int>(line.size()), line.data());
  std::fflush(stdout);
}

void PrintNotice(std::string_view line) {
  std::fprintf(stderr, "reprise: %.*s\n", static_cast<int>(line.size()),
               line.data());
}

void PrintStacks(const std::vector<std::string>& stacks) {
  if (stacks.empty()) return;
  PrintLine("the stacks, innermost frame first:");
  for (const std::string& line : stacks) PrintLine("  " + line);
}

int UsageError(const absl::Status& status, bool json) {
  const std::string message(status.message());
  if (json) PrintJson(Json{{"error", message}});
  PrintNotice(message);
  return kUsage;
}

std::string DefaultOutDirectory() {
  const char* const of_test = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  return of_test == nullptr || *of_test == '\0' ? "." : of_test;
}

std::string ProgramPath() {
  std::error_code error;
  const std::filesystem::path here = std::filesystem::current_path(error);
  const std::filesystem::path typed = program_invocation_name;
  if (!error && typed.is_absolute()) {
    const std::filesystem::path relative = typed.lexically_relative(here);
    if (!relative.empty() && *relative.begin() != "..") {
      return "./" + relative.string();
    }
  }
  return typed;
}

absl::Status TraceAndJson() {
  return absl::InvalidArgumentError(
      "--trace - and --json would both write to standard output: give the "
      "trace a file");
}

absl::Status WriteTrace(const std::string& path, const RunResult& result) {
  std::string text;
  for (const Event& event : result.events) {
    absl::StrAppend(&text, ToString(event), "\n");
  }
  if (path != "-") return WriteFile(path, text);
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
  return absl::OkStatus();
}

}  // namespace reprise
