// What a simulated run gives to its workers besides a group: files of their
// own, parameters within their ranges, other numbers of workers, and workers
// that are no members.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "sim/explore/sim_run.h"
#include "sim/scenario/scenario.h"

namespace reprise {
namespace {

// Each worker writes a file and finds it again, w1 after a crash, too.
void KeepFiles(Worker& worker) {
  const std::string path = worker.scratch_directory() + "/log";
  if (worker.incarnation() > 0) {
    worker.Check(std::filesystem::exists(path), "lost", path);
    worker.Reached("restarted");
  }
  std::ofstream(path) << worker.name();
  worker.Sleep(absl::Seconds(1));
  std::string text;
  std::ifstream(path) >> text;
  worker.Check(text == worker.name(), "mixed-up", text);
  worker.Check(worker.param("fails") == 0, "told-to", "");
}

class RunFilesTest : public testing::Test {
 protected:
  RunFilesTest() {
    directory_ = testing::TempDir() + "/run-files-XXXXXX";
    EXPECT_NE(mkdtemp(directory_.data()), nullptr);
    EXPECT_EQ(setenv("TMPDIR", directory_.c_str(), 1), 0);
  }
  ~RunFilesTest() override {
    unsetenv("TMPDIR");
    std::filesystem::remove_all(directory_);
  }

  bool IsEmpty() const { return std::filesystem::is_empty(directory_); }

  RunResult Run(int64_t fails, bool keep) {
    static const Scenario scenario = {.name = "keep_files",
                                      .workers = 2,
                                      .params = {{"fails", 0}},
                                      .body = KeepFiles};
    SimRunOptions options;
    options.scenario = &scenario;
    options.params = {{"fails", fails}};
    options.faults = {{"crash w1 after 500ms restart 100ms"}};
    options.keep_scratch = keep;
    const auto result = RunSimulated(options);
    EXPECT_TRUE(result.ok()) << result.status();
    return *result;
  }

 private:
  std::string directory_;
};

TEST_F(RunFilesTest, AWorkerFindsItsFilesAgainAndTheRunRemovesThem) {
  const RunResult result = Run(/*fails=*/0, /*keep=*/true);
  EXPECT_EQ(result.rule, "") << result.detail;
  EXPECT_EQ(result.probes.count("restarted"), 1u);
  EXPECT_EQ(result.scratch_directory, "");
  EXPECT_TRUE(IsEmpty());
}

TEST_F(RunFilesTest, AFailedRunKeepsThemIfItShall) {
  EXPECT_EQ(Run(/*fails=*/1, /*keep=*/false).scratch_directory, "");
  EXPECT_TRUE(IsEmpty());
  const RunResult result = Run(/*fails=*/1, /*keep=*/true);
  EXPECT_EQ(result.rule, "told-to");
  ASSERT_NE(result.scratch_directory, "");
  EXPECT_TRUE(std::filesystem::exists(result.scratch_directory + "/w0/log"));
}

TEST_F(RunFilesTest, ADirectoryThatCannotBeMadeFailsTheRun) {
  setenv("TMPDIR", "/nonexistent", 1);
  const RunResult result = Run(/*fails=*/0, /*keep=*/true);
  EXPECT_EQ(result.rule, "scratch-directory");
}

// The members meet in a barrier that the client is not in, after it has told
// them to.
void WithClient(Worker& worker) {
  const auto store = worker.environment().store;
  const absl::Time deadline = worker.In(absl::Seconds(60));
  if (worker.is_client()) {
    worker.CheckOk(store->Set("go", worker.name(), deadline), "set");
    return;
  }
  auto agent =
      Agent::Start(worker.environment(), worker.options(),
                   Blocking([](Message message, const RequestInfo&) {
                     return absl::StatusOr<Message>(std::move(message));
                   }),
                   deadline);
  if (!worker.CheckOk(agent.status(), "start")) return;
  const absl::StatusOr<std::string> by = store->Get("go", deadline);
  worker.Check(by.ok() && *by == worker.NameOf(worker.world_size()), "client",
               by.ok() ? *by : by.status().ToString());
  worker.CheckOk((*agent)->JoinForShutdown(deadline), "join");
  worker.CheckOk((*agent)->Shutdown(deadline), "shutdown");
}

TEST(RunWorkersTest, ClientsAreNoMembers) {
  const Scenario scenario = {
      .name = "with_client", .workers = 3, .clients = 1, .body = WithClient};
  SimRunOptions options;
  options.scenario = &scenario;
  options.faults = std::vector<std::string>();
  const auto result = RunSimulated(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "") << result->detail;
}

void CountWorkers(Worker& worker) {
  if (worker.rank() == worker.world_size() - 1) {
    worker.Note(std::to_string(worker.world_size()));
  }
}

const Scenario* CountingScenario() {
  static const ScenarioRegistration registration(
      "counting", {.workers = 2,
                   .worker_range = ParamRange{1, 8},
                   .params = {{"calls", 5}, {"percent", 1}},
                   .param_ranges = {{"percent", {0, 100}}},
                   .body = CountWorkers});
  return &AllScenarios().find("counting")->second;
}

absl::StatusOr<RunResult> Count(ScenarioParams params) {
  SimRunOptions options;
  options.scenario = CountingScenario();
  options.params = options.scenario->params;
  for (const auto& [name, value] : params) options.params[name] = value;
  options.keep_trace = true;
  return RunSimulated(options);
}

TEST(RunWorkersTest, TheirNumberIsAParameterWithARange) {
  for (const int64_t workers : {1, 2, 8}) {
    const auto result = Count({{"workers", workers}});
    ASSERT_TRUE(result.ok()) << result.status();
    for (const Event& event : result->events) {
      if (event.kind != EventKind::kNote) continue;
      EXPECT_EQ(event.text, std::to_string(workers));
    }
  }
  for (const int64_t workers : {-1, 0, 9}) {
    const absl::Status status = Count({{"workers", workers}}).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_NE(std::string(status.message()).find("from 1 to 8"),
              std::string::npos)
        << status;
  }
}

TEST(RunWorkersTest, ParametersHaveRanges) {
  EXPECT_TRUE(Count({{"calls", 0}, {"percent", 100}}).ok());
  const absl::Status negative = Count({{"calls", -5}}).status();
  EXPECT_NE(std::string(negative.message()).find("0 or more"),
            std::string::npos)
      << negative;
  EXPECT_TRUE(absl::IsInvalidArgument(Count({{"percent", 101}}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Count({{"unknown", 1}}).status()));
}

}  // namespace
}  // namespace reprise
