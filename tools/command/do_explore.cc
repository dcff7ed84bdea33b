// `reprise explore`.

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "sim/explore/explore.h"
#include "tools/command/report.h"
#include "tools/command/subcommands.h"

namespace reprise {
namespace {

const char* Env(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Bazel's contract for tests that share their work among processes.
void ReadSharding(ExploreOptions& options) {
  const int64_t total = std::strtol(Env("TEST_TOTAL_SHARDS"), nullptr, 10);
  const int64_t index = std::strtol(Env("TEST_SHARD_INDEX"), nullptr, 10);
  if (total < 2 || index < 0 || index >= total) return;
  options.shards = static_cast<uint64_t>(total);
  options.shard = static_cast<uint64_t>(index);
  if (std::FILE* file = std::fopen(Env("TEST_SHARD_STATUS_FILE"), "w")) {
    std::fclose(file);
  }
}

struct Written {
  std::string path;
  const ExploreFailure* failure;
};

Json ToJson(const ExploreResult& result, const ExploreCommand& command,
            const std::vector<Written>& written) {
  Json json;
  json["scenario"] = command.run.scenario;
  json["schedule"] = command.run.Describe();
  json["first_seed"] = command.first_seed;
  json["outcome"] = !result.failures.empty()   ? "violated"
                    : !result.unproved.empty() ? "inconclusive"
                                               : "held";
  json["seeds"] = result.seeds;
  json["events"] = result.events;
  json["decisions"] = result.decisions;
  json["sim_seconds"] = result.sim_seconds;
  json["wall_seconds"] = result.wall_seconds;
  json["seeds_per_second"] =
      static_cast<double>(result.seeds) / result.wall_seconds;
  json["sim_to_wall"] = result.sim_seconds / result.wall_seconds;
  json["failures"] = Json::array();
  for (const Written& entry : written) {
    const ReplayFile& replay = entry.failure->replay;
    json["failures"].push_back({{"seed", replay.seed},
                                {"rule", replay.rule},
                                {"detail", replay.detail},
                                {"hash", HashText(replay.hash)},
                                {"replay", entry.path},
                                {"faults", replay.faults},
                                {"decisions", replay.decisions.size()},
                                {"not_minimal", entry.failure->not_minimal},
                                {"story", entry.failure->story}});
  }
  json["probes"] = Json::object();
  for (const auto& [probe, seeds] : result.probes) {
    json["probes"][probe] = seeds;
  }
  json["faults"] = Json::object();
  for (const auto& [kind, seeds] : result.injections)
    json["faults"][kind] = seeds;
  json["unproved"] = result.unproved;
  return json;
}

void PrintFailure(const Written& entry) {
  const ReplayFile& replay = entry.failure->replay;
  PrintLine(absl::StrFormat(
      "seed %d fails (%d faults, %d decisions that matter%s%s):", replay.seed,
      replay.faults.size(), replay.decisions.size(),
      entry.failure->not_minimal.empty() ? "" : "; ",
      entry.failure->not_minimal));
  for (const std::string& line : entry.failure->story) PrintLine(line);
  if (entry.failure->not_deterministic) {
    PrintLine(absl::StrCat("NOT DETERMINISTIC: ", replay.detail,
                           "; see 'reprise verify ", replay.scenario,
                           " --seed ", replay.seed, "'"));
    return;
  }
  PrintLine(absl::StrCat("to run it again:  ", ProgramPath(), " replay ",
                         entry.path));
}

void PrintSummary(const ExploreResult& result, const ExploreCommand& command) {
  PrintLine(absl::StrFormat(
      "%s: %d seeds from %d under %s: %d failed; %.0f seeds/s, %.0f simulated "
      "seconds a second",
      command.run.scenario, result.seeds, command.first_seed,
      command.run.Describe(), result.failures.size(),
      static_cast<double>(result.seeds) / result.wall_seconds,
      result.sim_seconds / result.wall_seconds));
  const auto pair = [](std::string* out, const auto& entry) {
    absl::StrAppend(out, entry.first, " ", entry.second);
  };
  if (!result.probes.empty()) {
    PrintLine("seeds that reached: " +
              absl::StrJoin(result.probes, ", ", pair));
  }
  if (!result.injections.empty()) {
    PrintLine("seeds struck by:    " +
              absl::StrJoin(result.injections, ", ", pair));
  }
  for (const std::string& what : result.unproved) {
    PrintLine("INCONCLUSIVE: " + what);
  }
}

}  // namespace

int DoExplore(const CommonFlags& common, const ExploreCommand& command,
              Json* report) {
  absl::StatusOr<SimRunOptions> run = command.run.ToOptions();
  if (!run.ok()) return UsageError(run.status(), common.json);
  ExploreOptions options;
  options.run = *std::move(run);
  options.schedule_name = command.run.Describe();
  options.plant = common.plant;
  options.first_seed = command.first_seed;
  options.num_seeds = command.seeds;
  options.jobs = command.jobs;
  options.keep_going = command.keep_going;
  options.shrink_seconds = command.shrink_seconds;
  options.whole_story = command.all;
  ReadSharding(options);
  options.progress = [](const std::string& line) { PrintNotice(line); };

  const std::string out =
      command.out.empty() ? DefaultOutDirectory() : command.out;
  std::error_code error;
  std::filesystem::create_directories(out, error);
  if (error) {
    return UsageError(absl::InvalidArgumentError(
                          absl::StrCat("--out ", out, ": ", error.message())),
                      common.json);
  }

  absl::StatusOr<ExploreResult> result = Explore(options);
  if (!result.ok()) return UsageError(result.status(), common.json);
  bool not_deterministic = false;
  std::vector<Written> written;
  for (const ExploreFailure& failure : result->failures) {
    Written entry{"", &failure};
    if (failure.not_deterministic) {
      not_deterministic = true;
    } else {
      entry.path = absl::StrCat(out, "/", failure.replay.scenario, "-",
                                failure.replay.seed, ".replay");
      if (absl::Status status =
              WriteFile(entry.path, FormatReplay(failure.replay));
          !status.ok()) {
        return UsageError(status, common.json);
      }
    }
    written.push_back(std::move(entry));
  }
  if (report != nullptr) *report = ToJson(*result, command, written);
  if (common.json) {
    if (report == nullptr) PrintJson(ToJson(*result, command, written));
  } else {
    for (const Written& entry : written) PrintFailure(entry);
    PrintSummary(*result, command);
  }
  if (not_deterministic) return kNotDeterministic;
  if (!result->failures.empty()) return kViolated;
  return result->unproved.empty() ? kHeld : kInconclusive;
}

}  // namespace reprise
