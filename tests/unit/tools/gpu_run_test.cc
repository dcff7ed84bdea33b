// Scenarios of GPUs in processes of their own, started by this program: on
// GPUs that each process makes of its own memory, and on the machine's if it
// has any.

#include <stdlib.h>

#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/device/cuda/cuda_driver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/transport/cuda/fake_gpus.h"
#include "tools/processes/gpu_choice.h"
#include "tools/processes/process_run.h"
#include "tools/processes/worker_process.h"

namespace reprise {
namespace {

using testing::HasSubstr;

// The workers inherit it: how many GPUs of host memory they have. Without it
// they look for real ones.
constexpr char kNumFakeGpus[] = "GPU_RUN_TEST_FAKE_GPUS";

constexpr const char* kScenarios[] = {"device_streams", "device_maps",
                                      "gpu_parameter_server", "device_churn"};

// Processes cannot share the memory of such GPUs, so their tensors go through
// memory of the host (cuda_host and cuda_basic).
absl::StatusOr<GpuDriver*> FindFakeGpus(int count) {
  static FakeGpus* const machine = new FakeGpus(count);
  static FakeDriver* const driver = [] {
    auto* const made = new FakeDriver(*machine);
    made->set_can_share(false);
    return made;
  }();
  return driver;
}

absl::StatusOr<GpuDriver*> FindGpusOfWorker() {
  const char* const count = getenv(kNumFakeGpus);
  return count == nullptr ? FindCudaDriver() : FindFakeGpus(atoi(count));
}

ProcessRunOptions OptionsOf(const std::string& scenario,
                            const std::vector<int>& gpus) {
  ProcessRunOptions options;
  options.scenario = &AllScenarios().find(scenario)->second;
  options.params = options.scenario->params;
  options.transports = {"shm", "uv"};
  options.gpus = gpus;
  return options;
}

// The end of a run that should have held, for a failure message.
std::string Story(const RunResult& result) {
  constexpr size_t kEvents = 60;
  std::string story = result.detail;
  const size_t size = result.events.size();
  for (size_t i = size > kEvents ? size - kEvents : 0; i < size; ++i) {
    absl::StrAppend(&story, "\n", ToString(result.events[i]));
  }
  return story;
}

class GpuRunTest : public testing::Test {
 protected:
  ~GpuRunTest() override { unsetenv(kNumFakeGpus); }

  static void UseFakeGpus(int count) {
    setenv(kNumFakeGpus, absl::StrCat(count).c_str(), 1);
  }

  static void ExpectHolds(const ProcessRunOptions& options) {
    const auto result = RunInProcesses(options);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->rule, "") << Story(*result);
    // Without GPUs, a scenario ends with a note and without a call.
    int64_t num_calls = 0;
    for (const Event& event : result->events) {
      if (event.kind == EventKind::kCallCompleted) ++num_calls;
    }
    EXPECT_GT(num_calls, 0);
  }
};

class GpuScenarioTest : public GpuRunTest,
                        public testing::WithParamInterface<const char*> {};

TEST_P(GpuScenarioTest, HoldsOnOneFakeGpu) {
  UseFakeGpus(1);
  ExpectHolds(OptionsOf(GetParam(), {0}));
}

TEST_P(GpuScenarioTest, HoldsOnSeveralFakeGpus) {
  UseFakeGpus(3);
  ExpectHolds(OptionsOf(GetParam(), {0, 1, 2}));
}

TEST_P(GpuScenarioTest, HoldsOnTheGpusOfThisMachine) {
  const Scenario& scenario = AllScenarios().find(GetParam())->second;
  const auto choice = ChooseGpusOfRun(scenario, "", FindCudaDriver);
  if (!choice.ok()) GTEST_SKIP() << choice.status().message();
  ExpectHolds(OptionsOf(GetParam(), choice->gpus));
}

INSTANTIATE_TEST_SUITE_P(All, GpuScenarioTest, testing::ValuesIn(kScenarios),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST_F(GpuRunTest, AGpuThatWorkersDoNotFindEndsTheRun) {
  UseFakeGpus(1);
  const auto result = RunInProcesses(OptionsOf("device_streams", {4}));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->rule, "process");
  EXPECT_THAT(result->detail, HasSubstr("there is no cuda:4 here"));
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == reprise::kWorkerProcessCommand) {
    return reprise::WorkerProcessMain(argc, argv, {},
                                      reprise::FindGpusOfWorker);
  }
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
