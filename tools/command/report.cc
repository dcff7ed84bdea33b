#include "tools/command/report.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sim/explore/replay_file.h"
#include "tools/command/command.h"

namespace reprise {

std::string HashText(uint64_t hash) { return absl::StrFormat("%016x", hash); }

Json ToJson(const RunResult& result, std::string_view scenario, uint64_t seed) {
  Json json;
  json["scenario"] = std::string(scenario);
  json["seed"] = seed;
  json["outcome"] = result.held() ? "held" : "violated";
  if (!result.held()) {
    json["rule"] = result.rule;
    json["detail"] = result.detail;
  }
  json["hash"] = HashText(result.hash);
  json["events"] = result.num_events;
  json["decisions"] = result.num_decisions;
  json["sim_seconds"] = result.sim_seconds;
  json["wall_seconds"] = result.wall_seconds;
  json["faults"] = result.faults;
  json["strikes"] = Json::object();
  for (const auto& [kind, times] : result.injections) {
    json["strikes"][kind] = times;
  }
  json["probes"] = Json::array();
  for (const std::string& probe : result.probes) {
    json["probes"].push_back(probe);
  }
  return json;
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

int UsageError(const absl::Status& status, bool json) {
  const std::string message(status.message());
  if (json) PrintJson(Json{{"error", message}});
  PrintNotice(message);
  return kUsage;
}

absl::Status WriteTrace(const std::string& path, const RunResult& result) {
  std::string text;
  for (const Event& event : result.events) {
    absl::StrAppend(&text, ToString(event), "\n");
  }
  return WriteFile(path, text);
}

}  // namespace reprise
