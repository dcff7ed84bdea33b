// A replay file says what it is, whether it was edited, and which of its lines
// is wrong.

#include "sim/explore/replay_file.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"

namespace reprise {
namespace {

ReplayFile SomeReplay() {
  ReplayFile replay;
  replay.scenario = "lifecycle";
  replay.seed = 17;
  replay.params = {{"calls", 200}};
  replay.topology = {"link w0-w1 latency 1ms", "host w0,w1"};
  replay.faults = {"crash w1 after 1s"};
  replay.schedule = "random";
  replay.build = "6f0c";
  replay.hash = 0x123456789abcdef0;
  replay.rule = "exactly-once";
  replay.detail = "w1 call 7:\nnever completed";
  replay.decisions = {
      *Decision::Parse("w1/main [call w2 5] lock:calls#2 switch 1"),
      *Decision::Parse("w1/main [call w2 5] lock:calls#2 next w1/io")};
  return replay;
}

std::string ErrorOf(const std::string& text) {
  return std::string(ParseReplay(text).status().message());
}

TEST(ReplayFileTest, ComesBackAsItWasWritten) {
  const std::string text = FormatReplay(SomeReplay(), {"a comment", "t\nwo"});
  EXPECT_TRUE(absl::StrContains(text, "\n# a comment\n# t wo\nscenario"));
  const absl::StatusOr<ReplayFile> read = ParseReplay(text);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_FALSE(read->is_edited);
  EXPECT_FALSE(read->expects_hold);
  EXPECT_EQ(read->detail, "w1 call 7:\nnever completed");
  EXPECT_EQ(FormatReplay(*read, {"a comment", "t\nwo"}), text);
}

TEST(ReplayFileTest, WorkersOfItsLinesAreThoseOfTheRun) {
  Scenario scenario;
  scenario.name = "lifecycle";
  scenario.workers = 2;
  scenario.worker_range = ParamRange{2, 9};
  scenario.params = {{"calls", 1}, {std::string(kWorkersParam), 2}};
  ReplayFile replay = SomeReplay();
  const auto error_of = [&scenario](const ReplayFile& file) {
    const absl::StatusOr<ReplayFile> read = ParseReplay(FormatReplay(file));
    EXPECT_TRUE(read.ok()) << read.status();
    return std::string(CheckReplay(*read, scenario).message());
  };
  EXPECT_EQ(error_of(replay), "");
  replay.topology[1] = "host w0,w3";
  EXPECT_TRUE(absl::StartsWith(error_of(replay),
                               "line 6: topology 'host w0,w3': w0,w3 where "));
  // The workers are those of the run.
  replay.params[std::string(kWorkersParam)] = 4;
  EXPECT_EQ(error_of(replay), "");
  replay.faults = {"crash w3 after 1s"};
  EXPECT_EQ(error_of(replay), "");
  replay.faults = {"crash w4 after 1s"};
  EXPECT_TRUE(absl::StartsWith(error_of(replay),
                               "line 8: fault 'crash w4 after 1s': w4 where "));
}

TEST(ReplayFileTest, AKeptFileSaysWhatItExpects) {
  ReplayFile replay = SomeReplay();
  replay.expects_hold = true;
  const absl::StatusOr<ReplayFile> read = ParseReplay(FormatReplay(replay));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->expects_hold);
}

TEST(ReplayFileTest, TheRuntimeIsRecorded) {
  ReplayFile replay = SomeReplay();
  EXPECT_FALSE(absl::StrContains(FormatReplay(replay), "\nruntime"));
  replay.runtime = RuntimeKind::kReal;
  const std::string text = FormatReplay(replay);
  EXPECT_TRUE(absl::StrContains(text, "\nruntime real\n"));
  const absl::StatusOr<ReplayFile> read = ParseReplay(text);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->runtime, RuntimeKind::kReal);
  EXPECT_FALSE(read->is_edited);
  EXPECT_TRUE(absl::StrContains(
      ErrorOf(absl::StrReplaceAll(text, {{"runtime real", "runtime fake"}})),
      "runtime fake: the runtime must be real or sim"));
}

TEST(ReplayFileTest, AnEditIsSeenUnlessItIsAComment) {
  const std::string text = FormatReplay(SomeReplay());
  for (const auto& [from, to] :
       {std::pair{"seed 17", "seed 18"}, std::pair{"calls 200", "calls 100"},
        std::pair{"after 1s", "after 2s"},
        std::pair{"latency 1ms", "latency 2ms"},
        std::pair{"#2 switch 1", "#3 switch 1"},
        std::pair{"check ", "# check "}}) {
    const absl::StatusOr<ReplayFile> read =
        ParseReplay(absl::StrReplaceAll(text, {{from, to}}));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_TRUE(read->is_edited) << to;
  }
  const absl::StatusOr<ReplayFile> read =
      ParseReplay(absl::StrReplaceAll(text, {{"seed", "# mine\n\nseed"}}));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_FALSE(read->is_edited);
}

TEST(ReplayFileTest, FilesOfTheFirstVersionCanBeRead) {
  const absl::StatusOr<ReplayFile> read = ParseReplay(
      "reprise replay 1\nscenario echo\nseed 1\n"
      "decision w0 lock:CallTable#17 switch 1\nend\n");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->decisions.size(), 1u);
}

TEST(ReplayFileTest, AnErrorNamesTheLineAndTheCause) {
  const std::string head = "reprise replay 2\nscenario echo\n";
  EXPECT_TRUE(
      absl::StartsWith(ErrorOf("reprise replay 3\n"), "not a replay file"));
  EXPECT_TRUE(absl::StartsWith(ErrorOf(head), "the file is cut off"));
  EXPECT_EQ(ErrorOf(head + "sead 1\nend\n"),
            "line 3 makes no sense: sead 1: there is no line 'sead'");
  EXPECT_EQ(ErrorOf(head + "seed x\nend\n"),
            "line 3 makes no sense: seed x: the seed must be an integer");
  EXPECT_EQ(ErrorOf(head + "\n# x\nparam calls\nend\n"),
            "line 5 makes no sense: param calls: it must be 'param NAME "
            "INTEGER'");
  EXPECT_TRUE(absl::StrContains(
      ErrorOf(head + "decision w0/main [jump w1 1] lock:x#1 switch 1\nend\n"),
      "line 3 makes no sense"));
}

TEST(ReplayFileTest, IsCheckedAgainstItsScenario) {
  Scenario scenario;
  scenario.name = "lifecycle";
  scenario.workers = 3;
  scenario.params = {{"calls", 180}};
  std::string text = FormatReplay(SomeReplay());
  EXPECT_TRUE(CheckReplay(*ParseReplay(text), scenario).ok());
  const absl::Status param = CheckReplay(
      *ParseReplay(absl::StrReplaceAll(text, {{"param calls", "param cals"}})),
      scenario);
  EXPECT_EQ(param.message(),
            "line 4: lifecycle has no parameter 'cals'; there are: calls");
  const absl::Status fault = CheckReplay(
      *ParseReplay(absl::StrReplaceAll(text, {{"crash w1", "crush w1"}})),
      scenario);
  EXPECT_TRUE(absl::StartsWith(fault.message(), "line 7: ")) << fault;
}

}  // namespace
}  // namespace reprise
