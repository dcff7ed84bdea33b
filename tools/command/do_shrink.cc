// `reprise shrink`.

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sim/explore/isolated_run.h"
#include "sim/explore/replay_file.h"
#include "sim/explore/shrink.h"
#include "sim/view/story.h"
#include "tools/command/report.h"
#include "tools/command/subcommands.h"

namespace reprise {
namespace {

// "timeouts-81.small.replay" for "timeouts-81.replay".
std::string PathBeside(const std::string& path) {
  std::filesystem::path beside(path);
  const std::string extension = beside.extension();
  beside.replace_extension(".small" + extension);
  return beside;
}

absl::StatusOr<SimRunOptions> ToOptions(const CommonFlags& common,
                                        const ReplayFile& replay) {
  if (!replay.plant.empty() && common.planting != nullptr &&
      !common.planting->plant(replay.plant)) {
    return absl::InvalidArgumentError("no planted defect '" + replay.plant +
                                      "'");
  }
  absl::StatusOr<const Scenario*> scenario = FindScenario(replay.scenario);
  if (!scenario.ok()) return scenario.status();
  SimRunOptions run;
  run.scenario = *scenario;
  run.params = (*scenario)->params;
  for (const auto& [name, value] : replay.params) {
    const auto found = run.params.find(name);
    if (found == run.params.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the scenario ", replay.scenario, " has no parameter '", name, "'"));
    }
    found->second = value;
  }
  run.seed = replay.seed;
  run.topology = replay.topology;
  run.faults = replay.faults;
  run.recording = &replay.decisions;
  run.stack_bytes = replay.stack_kib * 1024;
  run.runtime = replay.runtime;
  run.schedule.tensorpipe_locks =
      replay.schedule.find("tensorpipe-locks") != std::string::npos;
  return run;
}

std::string Size(size_t faults, size_t decisions) {
  return absl::StrCat(faults, faults == 1 ? " fault" : " faults", " and ",
                      decisions, decisions == 1 ? " decision" : " decisions");
}

}  // namespace

int DoShrink(const CommonFlags& common, const ShrinkCommand& command) {
  absl::StatusOr<ReplayFile> replay = ReadReplay(command.path);
  if (!replay.ok()) return UsageError(replay.status(), common.json);
  absl::StatusOr<SimRunOptions> run = ToOptions(common, *replay);
  if (!run.ok()) return UsageError(run.status(), common.json);
  absl::StatusOr<RunResult> failed = RunIsolated(*run);
  if (!failed.ok()) return UsageError(failed.status(), common.json);
  // A failure that is known to be a hang is recognised sooner.
  if (failed->rule == "hang") run->max_idle_seconds = kHangIdleSeconds;
  if (failed->held()) {
    return UsageError(
        absl::FailedPreconditionError(absl::StrCat(
            command.path,
            ": everything holds in this build, so there is nothing to make "
            "smaller; see what 'replay' says of it")),
        common.json);
  }
  const ShrinkResult shrunk =
      Shrink({.run = *run,
              .smallest = SizesOf(*run->scenario),
              .max_seconds = command.shrink_seconds,
              .progress = [](const std::string& line) { PrintNotice(line); }},
             *failed);
  ReplayFile small = *replay;
  small.params = shrunk.params;
  small.topology = shrunk.run.topology;
  small.faults = shrunk.run.faults;
  small.decisions = shrunk.run.decisions;
  small.rule = shrunk.run.rule;
  small.detail = shrunk.run.detail;
  small.hash = shrunk.run.hash;
  small.build = BuildId();
  const std::string out =
      command.out.empty() ? PathBeside(command.path) : command.out;
  if (absl::Status status = WriteFile(out, FormatReplay(small)); !status.ok()) {
    return UsageError(status, common.json);
  }
  const std::vector<std::string> story = TellStory(shrunk.run);
  if (common.json) {
    PrintJson(Json{{"scenario", small.scenario},
                   {"seed", small.seed},
                   {"rule", small.rule},
                   {"outcome", shrunk.minimal ? "minimal" : "not minimal"},
                   {"stopped", shrunk.stopped},
                   {"runs", shrunk.runs},
                   {"seconds", shrunk.seconds},
                   {"changes", shrunk.changes},
                   {"faults", small.faults},
                   {"topology", small.topology},
                   {"decisions", small.decisions.size()},
                   {"replay", out},
                   {"story", story}});
    return kHeld;
  }
  for (const std::string& line : story) PrintLine(line);
  PrintLine(absl::StrFormat(
      "%s: from %s to %s in %d runs and %.1f s: %s", command.path,
      Size(replay->faults.size(), replay->decisions.size()),
      Size(small.faults.size(), small.decisions.size()), shrunk.runs,
      shrunk.seconds, shrunk.minimal ? "minimal" : shrunk.stopped));
  for (const std::string& change : shrunk.changes) PrintLine("  " + change);
  PrintLine(absl::StrCat("to run it again:  ", ProgramPath(), " replay ", out));
  return kHeld;
}

}  // namespace reprise
