// What the tests of runs in processes share. For the folder's own tests.

#ifndef REPRISE_TESTS_UNIT_TOOLS_PROCESS_TESTING_H_
#define REPRISE_TESTS_UNIT_TOOLS_PROCESS_TESTING_H_

#include <dirent.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/processes/process_run.h"

namespace reprise {

// Runs in a temporary directory of its own, and looks at what is left.
class ProcessTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const char* before = getenv("TMPDIR")) tmpdir_before_ = before;
    directory_ = testing::TempDir() + "/processes-XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    ASSERT_EQ(setenv("TMPDIR", directory_.c_str(), 1), 0);
  }

  void TearDown() override {
    EXPECT_THAT(FilesLeft(), testing::IsEmpty());
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a process is left";
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
    if (tmpdir_before_) {
      setenv("TMPDIR", tmpdir_before_->c_str(), 1);
    } else {
      unsetenv("TMPDIR");
    }
  }

  absl::StatusOr<RunResult> Run(
      std::string_view scenario, const std::string& transport = "uv",
      std::vector<std::string> faults = {}, const ScenarioParams& params = {},
      absl::Duration max_wall_time = absl::Minutes(3)) {
    ProcessRunOptions options;
    options.scenario = &AllScenarios().find(scenario)->second;
    options.params = options.scenario->params;
    for (const auto& [name, value] : params) options.params[name] = value;
    options.transports = {transport};
    options.faults = std::move(faults);
    options.max_wall_time = max_wall_time;
    return RunInProcesses(options);
  }

 private:
  std::vector<std::string> FilesLeft() const {
    std::vector<std::string> names;
    DIR* const directory = opendir(directory_.c_str());
    while (const dirent* entry = readdir(directory)) {
      const std::string name = entry->d_name;
      // ThreadSanitizer leaves a file of its own when it is killed.
      if (name == "." || name == ".." || name.starts_with("tsan.")) continue;
      names.push_back(name);
    }
    closedir(directory);
    return names;
  }

  std::string directory_;
  std::optional<std::string> tmpdir_before_;
};

// The story of a run that should have held, for a failure message.
inline std::string Story(const RunResult& result) {
  std::string story = result.detail;
  for (const Event& event : result.events) {
    absl::StrAppend(&story, "\n", ToString(event));
  }
  return story;
}

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_TOOLS_PROCESS_TESTING_H_
