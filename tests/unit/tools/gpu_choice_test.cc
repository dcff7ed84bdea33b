// The GPUs of a worker, from flags and environment.

#include "tools/processes/gpu_choice.h"

#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/transport/cuda/fake_gpus.h"

namespace reprise {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Variables = std::map<std::string, std::string>;

class GpuChoiceTest : public testing::Test {
 protected:
  GpuChoiceTest() {
    on_gpus_.name = "on_gpus";
    on_gpus_.workers = 3;
    on_gpus_.gpus_per_host = 2;
    on_cpus_.name = "on_cpus";
  }

  GpuFinder Find() {
    return [this]() -> absl::StatusOr<GpuDriver*> {
      ++num_searches_;
      return &driver_;
    };
  }
  static absl::StatusOr<GpuDriver*> FindNone() {
    return absl::UnimplementedError("there is no driver");
  }

  absl::StatusOr<GpuChoice> OfWorker(const Scenario& scenario,
                                     const std::string& device,
                                     const Variables& variables,
                                     const GpuFinder& find) {
    return ChooseGpusOfWorker(
        scenario, device,
        [&variables](const char* name) {
          const auto found = variables.find(name);
          return found == variables.end() ? nullptr : found->second.c_str();
        },
        find);
  }
  // The GPUs of a worker with the GPUs of `driver_`.
  std::vector<int> Gpus(const std::string& device, const Variables& variables) {
    const auto choice = OfWorker(on_gpus_, device, variables, Find());
    EXPECT_TRUE(choice.ok()) << choice.status();
    return choice.ok() ? choice->gpus : std::vector<int>();
  }
  std::string Error(const std::string& device, const Variables& variables) {
    const auto choice = OfWorker(on_gpus_, device, variables, Find());
    EXPECT_EQ(choice.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(choice.status().message());
  }

  Scenario on_gpus_;
  Scenario on_cpus_;
  FakeGpus machine_{4};
  FakeDriver driver_{machine_};
  int num_searches_ = 0;
};

TEST(ParseDevicesTest, ReadsNumbersNamesAndLists) {
  EXPECT_THAT(*ParseDevices("3"), ElementsAre(3));
  EXPECT_THAT(*ParseDevices("cuda:3"), ElementsAre(3));
  EXPECT_THAT(*ParseDevices("cuda:2,0"), ElementsAre(2, 0));
  EXPECT_THAT(*ParseDevices("cpu"), IsEmpty());
}

TEST(ParseDevicesTest, RefusesAnythingElse) {
  for (const char* text : {"", "cuda", "cuda:", "cuda:x", "-1", "cuda:-1", "1,",
                           "1;2", "rocm:0", "cpu,0", "99999999999"}) {
    const absl::Status status = ParseDevices(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
}

TEST(NamesOfTest, HasAWordForNone) {
  EXPECT_EQ(NamesOf({2, 0}), "cuda:2, cuda:0");
  EXPECT_EQ(NamesOf({}), "cpu");
}

TEST(GpusOfRankTest, TakeTurns) {
  const std::vector<int> all = {0, 1, 2};
  EXPECT_THAT(GpusOfRank(all, 0, 2), ElementsAre(0, 1));
  EXPECT_THAT(GpusOfRank(all, 2, 2), ElementsAre(2, 0));
  EXPECT_THAT(GpusOfRank(all, 4, 1), ElementsAre(1));
  EXPECT_THAT(GpusOfRank({5}, 7, 2), ElementsAre(5, 5));
  EXPECT_THAT(GpusOfRank({}, 1, 2), IsEmpty());
  EXPECT_THAT(GpusOfRank(all, 1, 0), IsEmpty());
}

TEST_F(GpuChoiceTest, ARunTakesAllGpusOrThoseOfTheFlag) {
  auto choice = ChooseGpusOfRun(on_gpus_, "", Find());
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_THAT(choice->gpus, ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(choice->driver, &driver_);
  EXPECT_THAT(choice->description,
              HasSubstr("w0 has cuda:0, cuda:1; w1 has cuda:1, cuda:2; w2 has "
                        "cuda:2, cuda:3; of cuda:0 (fake)"));
  choice = ChooseGpusOfRun(on_gpus_, "cuda:2", Find());
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_THAT(choice->gpus, ElementsAre(2));
  EXPECT_THAT(choice->description, HasSubstr("w1 has cuda:2, cuda:2; "));
}

TEST_F(GpuChoiceTest, AWorkerTakesWhatTorchrunOrSlurmSays) {
  EXPECT_THAT(Gpus("", {{"LOCAL_RANK", "3"}}), ElementsAre(3));
  EXPECT_THAT(Gpus("", {{"SLURM_LOCALID", "1"}}), ElementsAre(1));
  EXPECT_THAT(Gpus("", {{"LOCAL_RANK", "3"}, {"SLURM_LOCALID", "1"}}),
              ElementsAre(3));
  EXPECT_THAT(Gpus("", {{"LOCAL_RANK", ""}, {"SLURM_LOCALID", "1"}}),
              ElementsAre(1));
  EXPECT_THAT(Gpus("", {}), ElementsAre(0));
}

TEST_F(GpuChoiceTest, TheFlagWins) {
  EXPECT_THAT(Gpus("2", {{"LOCAL_RANK", "3"}}), ElementsAre(2));
  EXPECT_THAT(Gpus("cuda:2,cuda:1", {{"LOCAL_RANK", "x"}}), ElementsAre(2, 1));
  // No more than the scenario sees.
  EXPECT_THAT(Gpus("3,2,1", {}), ElementsAre(3, 2));
}

TEST_F(GpuChoiceTest, TheDescriptionSaysWhatDecided) {
  const auto of = [&](const std::string& device, const Variables& variables) {
    return OfWorker(on_gpus_, device, variables, Find())->description;
  };
  EXPECT_EQ(of("1", {}), "tensors are on cuda:1 (fake), by --device");
  EXPECT_EQ(of("", {{"LOCAL_RANK", "2"}}),
            "tensors are on cuda:2 (fake), by LOCAL_RANK");
  EXPECT_THAT(of("", {}), HasSubstr("cuda:0 (fake), the first, as neither"));
}

TEST_F(GpuChoiceTest, AGpuThatIsNotThere) {
  EXPECT_EQ(Error("cuda:4", {}),
            "--device cuda:4: this process sees 4 GPUs, cuda:0 to cuda:3");
  const std::string error = Error("", {{"LOCAL_RANK", "4"}});
  EXPECT_THAT(error,
              HasSubstr("LOCAL_RANK is 4, and this process sees 4 GPUs"));
  EXPECT_THAT(error, HasSubstr("at most 4 workers"));
  EXPECT_THAT(error, HasSubstr("--device 0"));
  EXPECT_EQ(ChooseGpusOfRun(on_gpus_, "0,9", Find()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(GpuChoiceTest, AVariableThatIsNoNumber) {
  EXPECT_THAT(Error("", {{"LOCAL_RANK", "one"}}),
              HasSubstr("LOCAL_RANK is 'one'"));
  EXPECT_THAT(Error("", {{"SLURM_LOCALID", "-1"}}),
              HasSubstr("SLURM_LOCALID is '-1'"));
}

TEST_F(GpuChoiceTest, WithoutAGpuAScenarioThatNeedsOneSaysWhatToDo) {
  for (const absl::Status& status :
       {ChooseGpusOfRun(on_gpus_, "", FindNone).status(),
        OfWorker(on_gpus_, "", {}, FindNone).status(),
        OfWorker(on_gpus_, "", {{"LOCAL_RANK", "0"}}, FindNone).status(),
        OfWorker(on_gpus_, "0", {}, FindNone).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    const std::string text(status.message());
    EXPECT_THAT(text, HasSubstr("on_gpus puts tensors on GPUs"));
    EXPECT_THAT(text, HasSubstr("there is no driver"));
    EXPECT_THAT(text, HasSubstr("'reprise doctor'"));
    EXPECT_THAT(text, HasSubstr("'reprise run on_gpus'"));
  }
  for (const absl::Status& status :
       {ChooseGpusOfRun(on_gpus_, "cpu", Find()).status(),
        OfWorker(on_gpus_, "cpu", {}, Find()).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr("--device cpu"));
  }
}

TEST_F(GpuChoiceTest, AScenarioOnCpusLooksForNoGpu) {
  for (const auto& choice :
       {ChooseGpusOfRun(on_cpus_, "", Find()),
        ChooseGpusOfRun(on_cpus_, "cpu", Find()),
        OfWorker(on_cpus_, "", {{"LOCAL_RANK", "x"}}, Find())}) {
    ASSERT_TRUE(choice.ok()) << choice.status();
    EXPECT_THAT(choice->gpus, IsEmpty());
    EXPECT_EQ(choice->driver, nullptr);
    EXPECT_EQ(choice->description,
              "tensors are on CPUs: on_cpus puts none on GPUs");
  }
  EXPECT_EQ(num_searches_, 0);
}

// A mistake in the flag is not passed over.
TEST_F(GpuChoiceTest, TheFlagIsCheckedForAScenarioOnCpusToo) {
  const auto fits = OfWorker(on_cpus_, "1", {}, Find());
  ASSERT_TRUE(fits.ok()) << fits.status();
  EXPECT_THAT(fits->gpus, IsEmpty());
  EXPECT_FALSE(OfWorker(on_cpus_, "4", {}, Find()).ok());
  const absl::Status none = OfWorker(on_cpus_, "1", {}, FindNone).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(none.message(),
            "--device cuda:1: this process sees no GPU: there is no driver");
}

}  // namespace
}  // namespace reprise
