// `reprise replay` and `reprise verify`.

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sim/explore/replay_file.h"
#include "sim/explore/verify.h"
#include "sim/view/story.h"
#include "tools/command/report.h"
#include "tools/command/subcommands.h"

namespace reprise {
namespace {

// The outcome of a replay.
struct Verdict {
  int exit_code;
  std::string outcome;  // for machines
  std::string text;
};

Verdict Judge(const ReplayFile& replay, const RunResult& result) {
  const bool same_build = replay.build == BuildId();
  const std::string left = result.first_mismatch.empty()
                               ? "every recorded decision was followed"
                               : absl::StrCat("the run left the recording at: ",
                                              result.first_mismatch);
  if (result.rule == replay.rule) {
    if (same_build && result.hash != replay.hash) {
      return {kNotDeterministic, "not deterministic",
              "the same build failed the same rule in another way; " + left};
    }
    return {kViolated, "violated",
            result.hash == replay.hash
                ? "the recorded failure happened again, event for event"
                : "the recorded failure happened again; " + left};
  }
  if (same_build) {
    return {kNotDeterministic, "not deterministic",
            "the same build went another way; " + left};
  }
  if (!result.held()) {
    return {kViolated, "violated",
            absl::StrCat("another rule was violated than the recorded '",
                         replay.rule, "'; ", left)};
  }
  return {kHeld, "held", "everything held; " + left};
}

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

}  // namespace

int DoReplay(const CommonFlags& common, const ReplayCommand& command) {
  absl::StatusOr<ReplayFile> replay = ReadReplay(command.path);
  if (!replay.ok()) return UsageError(replay.status(), common.json);
  if (absl::Status status = PlantAsRecorded(common, *replay); !status.ok()) {
    return UsageError(status, common.json);
  }
  absl::StatusOr<const Scenario*> scenario = FindScenario(replay->scenario);
  if (!scenario.ok()) return UsageError(scenario.status(), common.json);
  SimRunOptions run;
  run.scenario = *scenario;
  run.params = (*scenario)->params;
  for (const auto& [name, value] : replay->params) {
    // A parameter that no longer exists is left out: the code has changed
    // since.
    if (run.params.contains(name)) run.params[name] = value;
  }
  run.seed = replay->seed;
  run.faults = replay->faults;
  run.recording = &replay->decisions;
  run.keep_trace = true;
  // Its decisions may be at points at TensorPipe's locks, so these must be
  // points again.
  run.schedule.tensorpipe_locks =
      replay->schedule.find("tensorpipe-locks") != std::string::npos;
  run.schedule.context = command.context;
  absl::StatusOr<RunResult> result = RunSimulated(run);
  if (!result.ok()) return UsageError(result.status(), common.json);
  if (!command.trace_path.empty()) {
    absl::Status status = WriteTrace(command.trace_path, *result);
    if (!status.ok()) return UsageError(status, common.json);
  }
  const Verdict verdict = Judge(*replay, *result);
  if (common.json) {
    Json json = ToJson(*result, replay->scenario, replay->seed);
    json["outcome"] = verdict.outcome;
    json["verdict"] = verdict.text;
    json["recorded"] = {{"rule", replay->rule},
                        {"detail", replay->detail},
                        {"hash", HashText(replay->hash)},
                        {"same_build", replay->build == BuildId()}};
    json["first_mismatch"] = result->first_mismatch;
    PrintJson(json);
  } else {
    for (const std::string& line :
         command.all ? TellEverything(*result) : TellStory(*result)) {
      PrintLine(line);
    }
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
    absl::StatusOr<VerifyResult> result = Verify(options);
    if (!result.ok()) return UsageError(result.status(), common.json);
    seeds.push_back({{"seed", options.run.seed},
                     {"hash", HashText(result->hash)},
                     {"differs", result->differs}});
    if (result->differs.empty()) {
      if (!common.json) {
        PrintLine(absl::StrFormat(
            "%s seed %d: hash %s again, with the heap scattered, after other "
            "seeds and in a fresh process",
            command.run.scenario, options.run.seed, HashText(result->hash)));
      }
      continue;
    }
    exit_code = kNotDeterministic;
    seeds.back()["expected"] = result->expected;
    seeds.back()["got"] = result->got;
    if (!common.json) {
      PrintLine(absl::StrFormat("%s seed %d is NOT DETERMINISTIC %s",
                                command.run.scenario, options.run.seed,
                                result->differs));
      PrintLine("  expected: " + result->expected);
      PrintLine("  got:      " + result->got);
    }
  }
  if (common.json) {
    PrintJson(
        Json{{"scenario", command.run.scenario},
             {"outcome", exit_code == kHeld ? "held" : "not deterministic"},
             {"seeds", seeds}});
  }
  return exit_code;
}

}  // namespace reprise
