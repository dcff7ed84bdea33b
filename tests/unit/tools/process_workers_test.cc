// What a run in processes gives to its workers, and what it says of those that
// it lost.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/tools/process_testing.h"
#include "tools/processes/process_run.h"
#include "tools/processes/worker_process.h"

namespace reprise {
namespace {

using testing::HasSubstr;

std::unique_ptr<Agent> StartAgent(Worker& worker) {
  auto agent =
      Agent::Start(worker.environment(), worker.options(),
                   Blocking([](Message request, const RequestInfo&) {
                     request.type = MessageType::kScriptRet;
                     return absl::StatusOr<Message>(std::move(request));
                   }),
                   worker.In(absl::Seconds(60)));
  worker.CheckOk(agent.status(), "start");
  return agent.ok() ? *std::move(agent) : nullptr;
}

// All start, meet and leave.
void Meet(Worker& worker) {
  const auto agent = StartAgent(worker);
  if (agent == nullptr) return;
  worker.CheckOk(agent->JoinForShutdown(worker.In(absl::Seconds(60))), "join");
  worker.CheckOk(agent->Shutdown(worker.In(absl::Seconds(60))), "shutdown");
}
REPRISE_SCENARIO(meet, {.description = "",
                        .worker_range = ParamRange{1, 4},
                        .body = Meet});

// What a peer sees of a death comes before the death itself is seen.
void Die(Worker& worker) {
  const auto store = worker.environment().store;
  const absl::Time deadline = worker.In(absl::Seconds(60));
  if (worker.rank() == 0) {
    store->Set("dying", "", deadline).IgnoreError();
    store->Get("seen", deadline).status().IgnoreError();
    std::raise(SIGABRT);  // AddressSanitizer lets it be
  }
  store->Get("dying", deadline).status().IgnoreError();
  worker.Check(false, "call", "UNAVAILABLE: connection reset");
  store->Set("seen", "", deadline).IgnoreError();
  worker.Sleep(absl::InfiniteDuration());
}
REPRISE_SCENARIO(die, {.description = "", .workers = 2, .body = Die});

// A worker finds its files again when it was restarted.
void Files(Worker& worker) {
  const std::string path = worker.scratch_directory() + "/log";
  if (worker.incarnation() > 0) {
    worker.Check(std::filesystem::exists(path), "lost", path);
  }
  std::ofstream(path) << worker.name();
  if (worker.rank() == 1 && worker.incarnation() == 0) {
    worker.Note("has written");
    worker.Sleep(absl::InfiniteDuration());
  }
  worker.Check(worker.rank() == 0 || worker.param("fails") == 0, "told-to", "");
}
REPRISE_SCENARIO(files, {.description = "",
                         .workers = 2,
                         .params = {{"fails", 0}},
                         .body = Files});

// w2 tells the members that they may leave, and is in no barrier.
void Client(Worker& worker) {
  const auto store = worker.environment().store;
  const absl::Time deadline = worker.In(absl::Seconds(60));
  if (worker.is_client()) {
    worker.Check(worker.rank() == 2 && worker.world_size() == 2, "rank", "");
    worker.CheckOk(store->Set("go", "", deadline), "set");
    return;
  }
  const auto agent = StartAgent(worker);
  if (agent == nullptr) return;
  worker.CheckOk(store->Get("go", deadline).status(), "get");
  worker.CheckOk(agent->JoinForShutdown(deadline), "join");
  worker.CheckOk(agent->Shutdown(deadline), "shutdown");
}
REPRISE_SCENARIO(client, {.description = "", .clients = 1, .body = Client});

using ProcessWorkersTest = ProcessTest;

int64_t Count(const RunResult& result, EventKind kind) {
  return std::count_if(result.events.begin(), result.events.end(),
                       [kind](const Event& e) { return e.kind == kind; });
}

TEST_F(ProcessWorkersTest, TheLostAreNamed) {
  const auto result = Run("die");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "call");
  EXPECT_THAT(result->detail, HasSubstr("w1: UNAVAILABLE"));
  EXPECT_THAT(result->detail, HasSubstr("w0 died of SIGABRT"));
}

TEST_F(ProcessWorkersTest, FaultsThatNeverStrikeAreNamed) {
  const auto result =
      Run("meet", "uv", {"crash w1 after 1000s", "pause w0 after 0s for 1ms"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "") << Story(*result);
  EXPECT_EQ(result->never_struck,
            std::vector<std::string>{"crash w1 after 1000s"});
}

TEST_F(ProcessWorkersTest, FilesOfAFailedRunAreKeptIfTheyShall) {
  ProcessRunOptions options;
  options.scenario = &AllScenarios().find("files")->second;
  options.params = {{"fails", 0}};
  options.transports = {"uv"};
  options.faults = {{"crash w1 when w1 note restart 1ms"}};
  options.keep_scratch = true;
  auto result = RunInProcesses(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "") << Story(*result);
  EXPECT_EQ(result->scratch_directory, "");

  options.params = {{"fails", 1}};
  result = RunInProcesses(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "told-to") << Story(*result);
  const std::filesystem::path kept = result->scratch_directory;
  EXPECT_TRUE(std::filesystem::exists(kept / "w1/log"));
  std::filesystem::remove_all(kept.parent_path());
}

TEST_F(ProcessWorkersTest, AClientIsNoMember) {
  const auto result = Run("client", "uv");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "") << Story(*result);
}

TEST_F(ProcessWorkersTest, TheNumberOfWorkersIsAParameter) {
  const auto result = Run("meet", "uv", {}, {{"workers", 2}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "") << Story(*result);
  EXPECT_EQ(Count(*result, EventKind::kWorkerEnded), 2);
  EXPECT_EQ(Run("meet", "uv", {}, {{"workers", 9}}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == reprise::kWorkerProcessCommand) {
    return reprise::WorkerProcessMain(argc, argv, {});
  }
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
