// `reprise keep`: makes the replay file of a mended defect a test.

#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sim/explore/replay_file.h"
#include "tools/command/report.h"
#include "tools/command/subcommands.h"

namespace reprise {
namespace {

// What the kept file says at its top.
std::vector<std::string> CommentOf(const ReplayFile& replay) {
  std::vector<std::string> comment = {
      absl::StrCat("A defect that was mended. It violated the rule '",
                   replay.rule, "':"),
      absl::StrCat("  ", replay.detail),
      "This run, and those around it, must hold from now on."};
  if (!replay.plant.empty()) {
    comment.push_back(
        absl::StrCat("The defect was planted: ", replay.plant, "."));
  }
  return comment;
}

absl::Status Prepare(const std::string& directory, const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat("--to ", directory, ": ", error.message()));
  }
  if (std::filesystem::exists(path, error)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " exists already; give the file another name with --as"));
  }
  return absl::OkStatus();
}

}  // namespace

int DoKeep(const CommonFlags& common, const KeepCommand& command) {
  absl::StatusOr<ReplayFile> replay = ReadReplay(command.path);
  if (!replay.ok()) return UsageError(replay.status(), common.json);
  absl::StatusOr<const Scenario*> scenario = FindScenario(replay->scenario);
  if (!scenario.ok()) return UsageError(scenario.status(), common.json);
  if (absl::Status status = CheckReplay(*replay, **scenario); !status.ok()) {
    return UsageError(status, common.json);
  }
  if (replay->rule.empty()) {
    return UsageError(
        absl::InvalidArgumentError(absl::StrCat(
            command.path, " names no rule: only a recorded failure is kept")),
        common.json);
  }
  const std::string name =
      command.name.empty()
          ? std::filesystem::path(command.path).filename().string()
          : absl::StrCat(command.name, ".replay");
  const std::string path = absl::StrCat(command.directory, "/", name);
  if (absl::Status status = Prepare(command.directory, path); !status.ok()) {
    return UsageError(status, common.json);
  }
  const std::vector<std::string> comment = CommentOf(*replay);
  replay->expects_hold = true;
  replay->plant.clear();
  if (absl::Status status = WriteFile(path, FormatReplay(*replay, comment));
      !status.ok()) {
    return UsageError(status, common.json);
  }
  if (common.json) {
    PrintJson(Json{{"outcome", "kept"}, {"file", path}});
    return kHeld;
  }
  PrintLine(absl::StrCat("kept as ", path,
                         ": a replay of it, and a search around it, must hold "
                         "from now on"));
  PrintLine(
      "`replay_tests` (tools/bazel/replay_test.bzl) makes a test of each file "
      "in its directory");
  return kHeld;
}

}  // namespace reprise
