// Runs of tiny scenarios in processes of their own, started by this program.

#include "tools/processes/process_run.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/tools/process_testing.h"
#include "tools/processes/worker_process.h"

namespace reprise {
namespace {

using testing::Contains;
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

Message RequestWithTensor(int from) {
  Message request;
  request.type = MessageType::kScriptCall;
  request.payload = absl::StrCat("from ", from);
  auto tensor = MakeTensor(DType::kUInt8, {100'000});
  std::memset(tensor->storage->data(), from + 1, 100'000);
  request.tensors.push_back(*std::move(tensor));
  return request;
}

// Every worker calls every other, with a tensor.
void Echo(Worker& worker) {
  const auto agent = StartAgent(worker);
  if (agent == nullptr) return;
  for (int round = 0; round < worker.param("rounds"); ++round) {
    for (int rank = 0; rank < worker.world_size(); ++rank) {
      if (rank == worker.rank()) continue;
      const Future reply =
          agent->Send(worker.NameOf(rank), RequestWithTensor(worker.rank()));
      if (!worker.CheckOk(reply.status(), "echo")) return;
      worker.Check(
          reply.result()->payload == absl::StrCat("from ", worker.rank()),
          "echo", "another payload came back");
    }
  }
  worker.Reached("called");
  worker.CheckOk(agent->JoinForShutdown(worker.In(absl::Seconds(60))), "join");
  worker.CheckOk(agent->Shutdown(worker.In(absl::Seconds(60))), "shutdown");
}
REPRISE_SCENARIO(echo,
                 {.description = "", .params = {{"rounds", 3}}, .body = Echo});

// Shows what happens to processes, without agents. Worker 1 comes back, and
// worker 0 waits for its second life.
void Lives(Worker& worker) {
  const auto store = worker.environment().store;
  if (worker.rank() == 1 && worker.incarnation() == 0) {
    worker.Note("about to die");
    worker.Sleep(absl::InfiniteDuration());
  }
  if (worker.rank() == 1) {
    worker.CheckOk(store->Set("second life", "", worker.In(absl::Seconds(60))),
                   "set");
    worker.Reached("came back");
  } else {
    worker.CheckOk(
        store->Get("second life", worker.In(absl::Seconds(60))).status(),
        "get");
  }
}
REPRISE_SCENARIO(lives, {.description = "", .workers = 2, .body = Lives});

// The clock of a stopped process goes on.
void Ticks(Worker& worker) {
  if (worker.rank() != 0) return;
  absl::Time last = worker.runtime().Now();
  worker.Note("ticking");
  for (int i = 0;; ++i) {
    worker.Sleep(absl::Milliseconds(1));
    const absl::Time now = worker.runtime().Now();
    if (now - last > absl::Milliseconds(worker.param("gap_ms"))) {
      worker.Reached("stopped");
      return;
    }
    last = now;
  }
}
REPRISE_SCENARIO(ticks, {.description = "",
                         .workers = 2,
                         .params = {{"gap_ms", 250}},
                         .body = Ticks});

// What can go wrong, by number.
void Misbehave(Worker& worker) {
  if (worker.rank() != 0) {
    if (worker.param("how") != 4) worker.Sleep(absl::InfiniteDuration());
    return;
  }
  switch (worker.param("how")) {
    case 0:
      std::fprintf(stderr, "what worker 0 said last\n");
      std::abort();
    case 1:
      std::exit(3);
    case 2:
      worker.Check(false, "my-rule", "two: are three");
      worker.Sleep(absl::InfiniteDuration());
      break;
    case 3:
      worker.Note("here it hangs");
      worker.Sleep(absl::InfiniteDuration());
      break;
    case 4:
      std::_Exit(0);  // with the body not at its end
    case 5:
      // The file descriptor of its trace is among these.
      for (int fd = 3; fd < 64; ++fd) {
        [[maybe_unused]] ssize_t n = write(fd, "not a trace\n", 12);
      }
      worker.Sleep(absl::InfiniteDuration());
      break;
    case 6: {
      // An agent that lives on.
      static auto* const agent = new auto(StartAgent(worker));
      (void)agent;
      break;
    }
    case 7:
      throw 7;
    default:
      // Longer than what a pipe takes at once, from several threads.
      std::vector<std::unique_ptr<Thread>> threads;
      for (int i = 0; i < 4; ++i) {
        threads.push_back(worker.runtime().StartThread("writer", [&worker, i] {
          for (int k = 0; k < 20; ++k) {
            worker.Note(std::string(100'000, static_cast<char>('a' + i)));
          }
        }));
      }
      for (const auto& thread : threads) thread->Join();
      worker.Check(false, "done", "");
  }
}
REPRISE_SCENARIO(misbehave, {.description = "",
                             .workers = 2,
                             .params = {{"how", 0}},
                             .body = Misbehave});

class ProcessRunTest : public ProcessTest {
 protected:
  RunResult Misbehaviour(int64_t how,
                         absl::Duration max_wall_time = absl::Minutes(3)) {
    auto result = Run("misbehave", "uv", {}, {{"how", how}}, max_wall_time);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : RunResult();
  }
};

int64_t Count(const RunResult& result, EventKind kind) {
  return std::count_if(result.events.begin(), result.events.end(),
                       [kind](const Event& e) { return e.kind == kind; });
}

size_t IndexOf(const RunResult& result, EventKind kind, int32_t node,
               int64_t a) {
  for (size_t i = 0; i < result.events.size(); ++i) {
    const Event& event = result.events[i];
    if (event.kind == kind && event.node == node && event.a == a) return i;
  }
  ADD_FAILURE() << "no " << ToString(kind) << " of w" << node;
  return result.events.size();
}

class EchoInProcessesTest : public ProcessRunTest,
                            public testing::WithParamInterface<const char*> {};

TEST_P(EchoInProcessesTest, Holds) {
  const auto result = Run("echo", GetParam());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "") << Story(*result);
  EXPECT_THAT(result->probes, Contains("called"));
  // Three workers, two others each, three rounds.
  EXPECT_EQ(Count(*result, EventKind::kCallStarted), 18);
  EXPECT_EQ(Count(*result, EventKind::kCallCompleted), 18);
  EXPECT_EQ(Count(*result, EventKind::kRequest), 18);
  EXPECT_EQ(Count(*result, EventKind::kReply), 18);
  EXPECT_EQ(Count(*result, EventKind::kWorkerEnded), 3);
  EXPECT_EQ(result->num_events, static_cast<int64_t>(result->events.size()));
  EXPECT_GT(result->sim_seconds, 0);
  EXPECT_GT(result->wall_seconds, result->sim_seconds);
  for (const Event& event : result->events) {
    if (event.kind == EventKind::kListening) {
      EXPECT_THAT(event.text, HasSubstr(GetParam()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EchoInProcessesTest, testing::Values("uv", "shm"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST_F(ProcessRunTest, ACrashAtAnEventAndARestart) {
  const auto result =
      Run("lives", "uv", {"crash w1 when w1 note restart 20ms"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "") << Story(*result);
  EXPECT_EQ(result->injections, (std::map<std::string, int64_t>{{"crash", 1}}));
  EXPECT_THAT(result->probes, Contains("came back"));
  const size_t note = IndexOf(*result, EventKind::kNote, 1, 0);
  const size_t crash = IndexOf(*result, EventKind::kCrash, 1, 0);
  const size_t restart = IndexOf(*result, EventKind::kRestart, 1, 1);
  const size_t started = IndexOf(*result, EventKind::kWorkerStarted, 1, 1);
  EXPECT_LT(note, crash);
  EXPECT_LT(crash, restart);
  EXPECT_LT(restart, started);
  ASSERT_LT(started, result->events.size());
  EXPECT_GE(result->events[restart].time_ns - result->events[crash].time_ns,
            20'000'000 - 1'000'000);
  EXPECT_EQ(Count(*result, EventKind::kFault), 1);
  EXPECT_EQ(result->faults.size(), 1u);
}

TEST_F(ProcessRunTest, ACrashAtATimeWithoutARestart) {
  const auto result =
      Run("lives", "uv", {"crash w1 after 0s"}, {}, absl::Milliseconds(500));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->injections, (std::map<std::string, int64_t>{{"crash", 1}}));
  EXPECT_EQ(Count(*result, EventKind::kRestart), 0);
  // The other worker waits for it in vain.
  EXPECT_EQ(result->rule, "time-limit");
  EXPECT_THAT(result->detail,
              HasSubstr("not over after 500ms: w0 still running; w1 was killed "
                        "by the fault 'crash w1 after 0s'"));
  EXPECT_THAT(Story(*result), HasSubstr("not over after 500ms: w0 still"));
}

TEST_F(ProcessRunTest, APauseStopsAProcessForAsLong) {
  const auto result = Run("ticks", "uv", {"pause w0 when w0 note for 300ms"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "") << Story(*result);
  EXPECT_EQ(result->injections, (std::map<std::string, int64_t>{{"pause", 1}}));
  EXPECT_THAT(result->probes, Contains("stopped"));
}

TEST_F(ProcessRunTest, AnEchoHoldsWithPauses) {
  const auto result = Run("echo", "uv",
                          {"pause w1 when w0 call.started#2 for 50ms",
                           "pause w2 when w2 request#3 for 30ms"},
                          {{"rounds", 20}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "") << Story(*result);
  EXPECT_EQ(result->injections, (std::map<std::string, int64_t>{{"pause", 2}}));
}

TEST_F(ProcessRunTest, AWorkerThatAborts) {
  const RunResult result = Misbehaviour(0);
  EXPECT_EQ(result.rule, "process");
  EXPECT_THAT(result.detail, HasSubstr("w0 died of SIGABRT"));
  EXPECT_THAT(result.detail, HasSubstr("what worker 0 said last"));
  EXPECT_EQ(Count(result, EventKind::kCrash), 1);
}

TEST_F(ProcessRunTest, AWorkerThatExits) {
  const RunResult result = Misbehaviour(1);
  EXPECT_EQ(result.rule, "process");
  EXPECT_THAT(result.detail, HasSubstr("w0 exited with code 3"));
}

TEST_F(ProcessRunTest, AWorkerThatExitsTooEarly) {
  const RunResult result = Misbehaviour(4);
  EXPECT_EQ(result.rule, "process");
  EXPECT_THAT(result.detail, HasSubstr("before its body had returned"));
}

TEST_F(ProcessRunTest, AnExceptionOutOfABody) {
  const RunResult result = Misbehaviour(7);
  EXPECT_EQ(result.rule, "process");
  EXPECT_THAT(result.detail, HasSubstr("terminate"));
}

TEST_F(ProcessRunTest, ACheckThatFails) {
  const RunResult result = Misbehaviour(2);
  EXPECT_EQ(result.rule, "my-rule");
  EXPECT_EQ(result.detail, "w0: two: are three");
  EXPECT_EQ(Count(result, EventKind::kCheckFailed), 1);
}

TEST_F(ProcessRunTest, AHang) {
  const RunResult result = Misbehaviour(3, absl::Seconds(3));
  EXPECT_EQ(result.rule, "time-limit");
  EXPECT_THAT(result.detail, HasSubstr("not over after 3s"));
  EXPECT_THAT(result.detail, HasSubstr("here it hangs"));
  EXPECT_EQ(result.waiting.size(), 2u);
}

TEST_F(ProcessRunTest, AGarbledTrace) {
  const RunResult result = Misbehaviour(5);
  EXPECT_EQ(result.rule, "trace");
  EXPECT_THAT(result.detail, HasSubstr("not a trace"));
}

TEST_F(ProcessRunTest, LongLinesOfManyThreadsStayWhole) {
  const RunResult result = Misbehaviour(8);
  EXPECT_EQ(result.rule, "done") << result.detail.substr(0, 1000);
  EXPECT_EQ(Count(result, EventKind::kNote), 80);
  for (const Event& event : result.events) {
    if (event.kind != EventKind::kNote) continue;
    ASSERT_EQ(event.text, std::string(100'000, event.text[0]));
  }
}

TEST_F(ProcessRunTest, ViolatedInvariantsAreFound) {
  ProcessRunOptions options;
  Scenario scenario = AllScenarios().find("misbehave")->second;
  scenario.workers = 1;
  options.scenario = &scenario;
  options.params = {{"how", 6}};
  options.transports = {"uv"};
  const auto result = RunInProcesses(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "shutdown") << result->detail;
}

TEST_F(ProcessRunTest, FaultsOfTheSimulatorOnly) {
  for (const char* fault :
       {"cut w0-w1 after 1s reset", "refuse w1 after 1s for 2s",
        "hold w0-w1 after 1s for 2s", "drop-connect w1 after 1s",
        "store-outage all after 1s for 2s", "store-delay 1ms after 1s for 2s",
        "crash w1 when w1 send.payload#3"}) {
    const absl::Status status = Run("echo", "uv", {fault}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << fault;
    EXPECT_THAT(std::string(status.message()), HasSubstr(fault));
  }
  const absl::Status status =
      Run("echo", "uv", {"drop-connect w1 after 1s"}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("kill -9"));
}

TEST_F(ProcessRunTest, ATransportThatThereIsNot) {
  EXPECT_EQ(Run("echo", "tcp").status().code(),
            absl::StatusCode::kInvalidArgument);
  ProcessRunOptions options;
  options.scenario = &AllScenarios().find("echo")->second;
  EXPECT_EQ(RunInProcesses(options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ProcessRunTest, SeveralTransports) {
  ProcessRunOptions options;
  options.scenario = &AllScenarios().find("echo")->second;
  options.params = options.scenario->params;
  options.transports = {"shm", "uv"};
  const auto result = RunInProcesses(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "") << Story(*result);
}

TEST_F(ProcessRunTest, AScenarioOnGpusWithoutGpusIsRefused) {
  Scenario scenario = AllScenarios().find("echo")->second;
  scenario.gpus_per_host = 2;
  ProcessRunOptions options;
  options.scenario = &scenario;
  options.transports = {"uv"};
  const absl::Status status = RunInProcesses(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("--on cuda"));
}

TEST_F(ProcessRunTest, TheScenariosOwnFaultsAreDrawn) {
  Scenario scenario = AllScenarios().find("lives")->second;
  scenario.process_faults = [](const Draws&, const ScenarioParams&) {
    return std::vector<std::string>{"crash w1 when w1 note restart 0s"};
  };
  ProcessRunOptions options;
  options.scenario = &scenario;
  options.transports = {"uv"};
  const auto result = RunInProcesses(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "") << Story(*result);
  EXPECT_EQ(result->injections, (std::map<std::string, int64_t>{{"crash", 1}}));
}

TEST(WorkerProcessTest, ArgumentsThatMakeNoSense) {
  std::string program = "x";
  std::string command = kWorkerProcessCommand;
  for (std::string word :
       {"what", "rank=x", "rank=0", "scenario=nothing", "param:a=b"}) {
    char* argv[] = {program.data(), command.data(), word.data(), nullptr};
    EXPECT_EQ(WorkerProcessMain(3, argv, {}), 2) << word;
  }
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
