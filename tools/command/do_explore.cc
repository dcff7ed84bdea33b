// `reprise explore`.

#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>
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

// After the first SIGINT or SIGTERM, the exploration stops and says what it
// found. The second ends the process.
volatile std::sig_atomic_t g_signal = 0;

void StopAtSignals() {
  struct sigaction action = {};
  action.sa_handler = [](int signal) { g_signal = signal; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

std::string PathOf(const std::string& out, const ExploreFailure& failure) {
  if (failure.not_deterministic) return "";
  return absl::StrCat(out, "/", failure.replay.scenario, "-",
                      failure.replay.seed, ".replay");
}

// What an exploration does that does not end by itself: it says so, and is no
// proof.
void JudgeInterruption(ExploreResult& result) {
  if (result.was_interrupted && result.failures.empty()) {
    result.unproved.push_back(result.stopped);
  }
}

Json ToJson(const ExploreResult& result, const ExploreCommand& command,
            const std::string& out, const std::set<std::string>& unwritten) {
  Json json;
  json["scenario"] = command.run.scenario;
  json["schedule"] = command.run.Describe();
  json["first_seed"] = command.first_seed;
  json["outcome"] = !result.failures.empty()   ? "violated"
                    : !result.unproved.empty() ? "inconclusive"
                                               : "held";
  json["seeds"] = result.seeds;
  json["failed_seeds"] = result.failed_seeds;
  if (!result.stopped.empty()) json["stopped"] = result.stopped;
  json["events"] = result.events;
  json["decisions"] = result.decisions;
  json["sim_seconds"] = result.sim_seconds;
  json["wall_seconds"] = result.wall_seconds;
  json["seeds_per_second"] =
      static_cast<double>(result.seeds) / result.wall_seconds;
  json["sim_to_wall"] = result.sim_seconds / result.wall_seconds;
  json["failures"] = Json::array();
  for (const ExploreFailure& failure : result.failures) {
    const ReplayFile& replay = failure.replay;
    json["failures"].push_back({{"seed", replay.seed},
                                {"rule", replay.rule},
                                {"detail", replay.detail},
                                {"signature", failure.signature},
                                {"count", failure.count},
                                {"other_seeds", failure.other_seeds},
                                {"hash", HashText(replay.hash)},
                                {"replay", PathOf(out, failure)},
                                {"faults", replay.faults},
                                {"topology", replay.topology},
                                {"decisions", replay.decisions.size()},
                                {"not_minimal", failure.not_minimal},
                                {"story", failure.story},
                                {"stacks", failure.stacks}});
    if (unwritten.contains(PathOf(out, failure))) {
      json["failures"].back()["replay_text"] = FormatReplay(replay);
    }
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

// "18, 20, 21 and 57 more".
std::string ListSeeds(const ExploreFailure& failure) {
  constexpr size_t kShown = 10;
  const auto begin = failure.other_seeds.begin();
  const size_t shown = std::min(kShown, failure.other_seeds.size());
  std::string list =
      absl::StrJoin(begin, begin + static_cast<std::ptrdiff_t>(shown), ", ");
  const int64_t more = failure.count - 1 - static_cast<int64_t>(shown);
  if (more > 0) absl::StrAppend(&list, " and ", more, " more");
  return list;
}

void PrintFailure(const ExploreFailure& failure, const std::string& path,
                  bool is_written) {
  const ReplayFile& replay = failure.replay;
  PrintLine(absl::StrFormat(
      "seed %d fails (%d faults, %d decisions that matter%s%s):", replay.seed,
      replay.faults.size(), replay.decisions.size(),
      failure.not_minimal.empty() ? "" : "; ", failure.not_minimal));
  for (const std::string& line : failure.story) PrintLine(line);
  PrintStacks(failure.stacks);
  if (failure.count > 1) {
    PrintLine(absl::StrCat("fails alike: ", failure.count - 1,
                           " other seeds: ", ListSeeds(failure)));
  }
  if (failure.not_deterministic) {
    PrintLine(absl::StrCat("NOT DETERMINISTIC: ", replay.detail,
                           "; see 'reprise verify ", replay.scenario,
                           " --seed ", replay.seed, "'"));
    return;
  }
  if (!is_written) {
    PrintLine("its replay file could not be written; this is its text:");
    PrintLine(FormatReplay(replay));
    return;
  }
  PrintLine(
      absl::StrCat("to run it again:  ", ProgramPath(), " replay ", path));
}

void PrintSummary(const ExploreResult& result, const ExploreCommand& command) {
  PrintLine(absl::StrFormat(
      "%s: %d seeds from %d under %s%s: %d failed; %.0f seeds/s, %.0f "
      "simulated seconds a second",
      command.run.scenario, result.seeds, command.first_seed,
      command.run.Describe(),
      command.run.runtime == RuntimeKind::kReal ? " with the real runtime" : "",
      result.failed_seeds,
      static_cast<double>(result.seeds) / result.wall_seconds,
      result.sim_seconds / result.wall_seconds));
  if (result.failures.size() > 1) {
    PrintLine(absl::StrCat("the failures are of ", result.failures.size(),
                           " kinds, with a replay file each"));
  }
  if (!result.stopped.empty()) PrintLine(result.stopped);
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
  options.max_seconds = command.seconds;
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

  // What cannot be written is part of the report, so that no failure is lost.
  std::set<std::string> unwritten;
  options.found = [&](const ExploreFailure& failure) {
    if (failure.not_deterministic) return absl::OkStatus();
    const std::string path = PathOf(out, failure);
    const absl::Status status = WriteFile(path, FormatReplay(failure.replay));
    if (!status.ok()) {
      PrintNotice(std::string(status.message()));
      unwritten.insert(path);
    }
    return absl::OkStatus();
  };
  StopAtSignals();
  options.interrupted = [] { return g_signal != 0; };

  absl::StatusOr<ExploreResult> result = Explore(options);
  if (!result.ok()) return UsageError(result.status(), common.json);
  JudgeInterruption(*result);
  if (report != nullptr) *report = ToJson(*result, command, out, unwritten);
  if (common.json) {
    if (report == nullptr) PrintJson(ToJson(*result, command, out, unwritten));
  } else {
    for (const ExploreFailure& failure : result->failures) {
      const std::string path = PathOf(out, failure);
      PrintFailure(failure, path, !unwritten.contains(path));
    }
    PrintSummary(*result, command);
  }
  if (std::any_of(
          result->failures.begin(), result->failures.end(),
          [](const auto& failure) { return failure.not_deterministic; })) {
    return kNotDeterministic;
  }
  if (!result->failures.empty()) return kViolated;
  return result->unproved.empty() ? kHeld : kInconclusive;
}

}  // namespace reprise
