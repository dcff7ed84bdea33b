// The tests of the channels for GPUs can fail: with each wait taken out, the
// receiver gets something else.

#include <string>

#include "gtest/gtest.h"
#include "tests/unit/transport/cuda/scenarios.h"

namespace reprise {
namespace {

std::string planted;

TEST(CudaPlantedTest, XthWithoutTheWaitForTheSendersWork) {
  planted = "cuda_xth_no_wait";
  EXPECT_FALSE(SlowSender(Kind::kXth));
}

TEST(CudaPlantedTest, IpcWithoutTheWaitForTheSlotsEvent) {
  planted = "cuda_ipc_no_wait";
  EXPECT_FALSE(SlowReceiver(Kind::kIpc, /*gets_ahead=*/true));
}

TEST(CudaPlantedTest, DirectWithoutTheWaitForTheSendersWork) {
  planted = "cuda_direct_no_wait";
  EXPECT_FALSE(SlowSender(Kind::kDirect));
}

TEST(CudaPlantedTest, DirectThatRepliesBeforeTheCopyIsDone) {
  planted = "cuda_direct_early_reply";
  EXPECT_FALSE(SlowReceiver(Kind::kDirect, /*gets_ahead=*/true));
}

TEST(CudaPlantedTest, BasicThatGivesBackASlotBeforeTheCopyIsDone) {
  planted = "cuda_basic_early_slot";
  EXPECT_FALSE(SlowReceiver(Kind::kBasic, /*gets_ahead=*/true));
}

TEST(CudaPlantedTest, HostThatGivesBackASlotBeforeTheCopyIsDone) {
  planted = "cuda_host_early_reply";
  EXPECT_FALSE(SlowReceiver(Kind::kHostShared, /*gets_ahead=*/true));
}

}  // namespace

bool IsPlanted(const char* name) { return planted == name; }

}  // namespace reprise
