// `reprise replay` and `reprise verify`.

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sim/explore/isolated_run.h"
#include "sim/explore/obituary.h"
#include "sim/explore/replay_file.h"
#include "sim/explore/search.h"
#include "sim/explore/signature.h"
#include "sim/explore/verify.h"
#include "sim/view/story.h"
#include "tools/command/replay_verdict.h"
#include "tools/command/report.h"
#include "tools/command/subcommands.h"

namespace reprise {
namespace {

constexpr double kNoLimitSeconds = 1e9;

absl::Status PlantAsRecorded(const CommonFlags& common,
                             const ReplayFile& replay) {
  if (replay.plant.empty() || common.planting == nullptr) {
    return absl::OkStatus();
  }
  if (!common.plant.empty() && common.plant != replay.plant) {
    return absl::InvalidArgumentError(
        absl::StrCat("--plant ", common.plant, ", but the file was made with ",
                     replay.plant));
  }
  if (!common.planting->plant(replay.plant)) {
    return absl::InvalidArgumentError("no planted defect '" + replay.plant +
                                      "'");
  }
  return absl::OkStatus();
}

// Where to write what a search found: beside the file, or among a test's
// undeclared outputs.
std::string PathOfFinding(const std::string& path) {
  std::filesystem::path found(path);
  found.replace_extension(".found.replay");
  const char* const outputs = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  if (outputs == nullptr) return found.string();
  return (std::filesystem::path(outputs) / found.filename()).string();
}

// Searches around a recording in which nothing was violated, and writes the
// file of what it finds.
absl::Status SearchAround(const ReplayFile& replay,
                          const ReplayCommand& command,
                          const SimRunOptions& run, RunResult& result,
                          Verdict& verdict, Json& json) {
  SearchOptions options;
  options.run = run;
  options.decisions = replay.decisions;
  options.rule = replay.rule;
  if (command.search_seconds > 0) options.max_seconds = command.search_seconds;
  if (command.variants > 0) {
    options.max_variants = command.variants;
    if (command.search_seconds == 0) options.max_seconds = kNoLimitSeconds;
  }
  options.progress = [](const std::string& line) { PrintNotice(line); };
  absl::StatusOr<SearchResult> search = Search(options, result);
  if (!search.ok()) return search.status();
  SearchFinding* const found = search->same    ? &*search->same
                               : search->other ? &*search->other
                                               : nullptr;
  const std::string path = PathOfFinding(command.path);
  if (found != nullptr) {
    ReplayFile file = replay;
    file.seed = found->seed;
    file.topology = found->run.topology;
    file.faults = found->run.faults;
    file.build = BuildId();
    file.hash = found->run.hash;
    file.rule = found->run.rule;
    file.detail = found->run.detail;
    file.expects_hold = false;
    file.decisions = found->run.decisions;
    const absl::Status status = WriteFile(
        path, FormatReplay(file, {absl::StrCat("Found around ", command.path,
                                               ": ", found->how)}));
    if (!status.ok()) return status;
  }
  verdict = JudgeSearch(replay, *search, path);
  json = {{"variants", search->variants},
          {"tried", search->tried},
          {"seconds", search->seconds}};
  if (found != nullptr) {
    json["how"] = found->how;
    json["file"] = path;
    result = std::move(found->run);
  }
  return absl::OkStatus();
}

void PrintLeak(const std::string& scenario, uint64_t seed,
               const VerifyResult& result) {
  PrintLine(absl::StrFormat("%s seed %d is NOT DETERMINISTIC (%s) %s", scenario,
                            seed, ToString(*result.leak), result.differs));
  if (!result.expected.empty()) {
    PrintLine("  expected: " + result.expected);
    PrintLine("  got:      " + result.got);
  }
  for (const std::string& place : result.places) PrintLine("  in " + place);
  PrintLine(absl::StrCat("  ", std::string(AdviceAbout(*result.leak))));
}

// A run that ends its process can only be compared with another such run.
absl::StatusOr<VerifyResult> VerifyDeath(const SimRunOptions& run,
                                         const RunResult& first) {
  VerifyResult result;
  result.hash = first.hash;
  const absl::StatusOr<RunResult> again = RunIsolated(run);
  if (!again.ok()) return again.status();
  if (!IsSameFailure(first, *again) || again->hash != first.hash) {
    result.differs = "in another process";
    result.leak = LeakKind::kAddress;  // a guess: nothing else differs so often
    result.expected = absl::StrCat(first.rule, ": ", first.detail);
    result.got = absl::StrCat(again->rule, ": ", again->detail);
  }
  return result;
}

// Verifies one seed. `death`: the result of a run that died; unset for others.
absl::StatusOr<VerifyResult> VerifySeed(const VerifyOptions& options,
                                        std::optional<RunResult>& death) {
  if (options.run.in_process) return Verify(options);
  SimRunOptions run = options.run;
  run.keep_trace = true;
  absl::StatusOr<RunResult> first = RunIsolated(run);
  if (!first.ok()) return first.status();
  if (!IsDeathRule(first->rule)) return Verify(options);
  death = *std::move(first);
  return VerifyDeath(run, *death);
}

}  // namespace

int DoReplay(const CommonFlags& common, const ReplayCommand& command) {
  absl::StatusOr<ReplayFile> replay = ReadReplay(command.path);
  if (!replay.ok()) return UsageError(replay.status(), common.json);
  if (absl::Status status = PlantAsRecorded(common, *replay); !status.ok()) {
    return UsageError(status, common.json);
  }
  absl::StatusOr<const Scenario*> scenario = FindScenario(replay->scenario);
  if (!scenario.ok()) return UsageError(scenario.status(), common.json);
  if (absl::Status status = CheckReplay(*replay, **scenario); !status.ok()) {
    return UsageError(absl::InvalidArgumentError(
                          absl::StrCat(command.path, ": ", status.message())),
                      common.json);
  }
  SimRunOptions run;
  run.scenario = *scenario;
  run.params = (*scenario)->params;
  for (const auto& [name, value] : replay->params) run.params[name] = value;
  run.seed = replay->seed;
  run.topology = replay->topology;
  run.faults = replay->faults;
  run.recording = &replay->decisions;
  run.keep_trace = true;
  command.isolation.ApplyTo(run);
  if (replay->rule == "hang") run.max_idle_seconds = kHangIdleSeconds;
  if (run.stack_bytes == 0) run.stack_bytes = replay->stack_kib * 1024;
  // Its decisions may be at points at TensorPipe's locks, so these must be
  // points again.
  run.schedule.tensorpipe_locks =
      replay->schedule.find("tensorpipe-locks") != std::string::npos;
  run.schedule.context = command.context;
  if (command.runtime && *command.runtime != replay->runtime) {
    replay->runtime = *command.runtime;
    replay->is_edited = true;
  }
  run.runtime = replay->runtime;
  absl::StatusOr<RunResult> result = RunIsolated(run);
  if (!result.ok()) return UsageError(result.status(), common.json);
  if (!command.trace_path.empty()) {
    absl::Status status = WriteTrace(command.trace_path, *result);
    if (!status.ok()) return UsageError(status, common.json);
  }
  const bool same_build = replay->build == BuildId();
  Verdict verdict = JudgeReplay(*replay, *result, same_build);
  Json search;
  const bool searches = command.search_seconds > 0 || command.variants > 0;
  if (searches && result->held() && verdict.exit_code != kNotDeterministic) {
    const absl::Status status =
        SearchAround(*replay, command, run, *result, verdict, search);
    if (!status.ok()) return UsageError(status, common.json);
  }
  if (common.json) {
    Json json = ToJson(*result, replay->scenario, replay->seed);
    json["outcome"] = verdict.outcome;
    json["verdict"] = verdict.text;
    json["recorded"] = {{"rule", replay->rule},
                        {"detail", replay->detail},
                        {"hash", HashText(replay->hash)},
                        {"same_build", same_build},
                        {"edited", replay->is_edited}};
    if (!search.is_null()) json["search"] = search;
    json["first_mismatch"] = result->first_mismatch;
    PrintJson(json);
  } else {
    for (const std::string& line :
         command.all ? TellEverything(*result) : TellStory(*result)) {
      PrintLine(line);
    }
    PrintStacks(result->stacks);
    PrintLine(absl::StrFormat(
        "%s seed %d, hash %s (recorded %s): %s", replay->scenario, replay->seed,
        HashText(result->hash), HashText(replay->hash), verdict.text));
  }
  return verdict.exit_code;
}

int DoVerify(const CommonFlags& common, const VerifyCommand& command) {
  absl::StatusOr<SimRunOptions> run = command.run.ToOptions();
  if (!run.ok()) return UsageError(run.status(), common.json);
  Json seeds = Json::array();
  int exit_code = kHeld;
  for (uint64_t i = 0; i < command.seeds; ++i) {
    VerifyOptions options;
    options.run = *run;
    options.run.seed = command.run.seed + i;
    options.command =
        command.run.ToArguments(options.run.seed, run->schedule.pct_length);
    if (!common.plant.empty()) {
      options.command.insert(options.command.end(), {"--plant", common.plant});
    }
    std::optional<RunResult> death;
    absl::StatusOr<VerifyResult> result = VerifySeed(options, death);
    if (!result.ok()) return UsageError(result.status(), common.json);
    seeds.push_back({{"seed", options.run.seed},
                     {"hash", HashText(result->hash)},
                     {"differs", result->differs}});
    if (death) seeds.back()["rule"] = death->rule;
    if (result->differs.empty() && death) {
      if (exit_code == kHeld) exit_code = kViolated;
      if (!common.json) {
        PrintLine(absl::StrFormat(
            "%s seed %d: hash %s again in another process; VIOLATED %s: %s",
            command.run.scenario, options.run.seed, HashText(result->hash),
            death->rule, death->detail));
      }
      continue;
    }
    if (result->differs.empty()) {
      if (!common.json) {
        PrintLine(absl::StrFormat(
            "%s seed %d: hash %s again%s and in a fresh process",
            command.run.scenario, options.run.seed, HashText(result->hash),
            options.run.scenario->foreign_code
                ? " in another process"
                : ", with another clock, with the heap scattered, after other "
                  "seeds"));
      }
      continue;
    }
    exit_code = kNotDeterministic;
    seeds.back()["expected"] = result->expected;
    seeds.back()["got"] = result->got;
    seeds.back()["leak"] = ToString(*result->leak);
    seeds.back()["places"] = result->places;
    if (!common.json)
      PrintLeak(command.run.scenario, options.run.seed, *result);
  }
  if (common.json) {
    PrintJson(Json{{"scenario", command.run.scenario},
                   {"outcome", exit_code == kHeld       ? "held"
                               : exit_code == kViolated ? "violated"
                                                        : "not deterministic"},
                   {"seeds", seeds}});
  }
  return exit_code;
}

}  // namespace reprise
