// Two simulated processes on one host with two GPUs, for tests.

#ifndef REPRISE_TESTS_UNIT_SIM_DEVICE_GPU_TESTING_H_
#define REPRISE_TESTS_UNIT_SIM_DEVICE_GPU_TESTING_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/device/driver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sim/device/sim_gpus.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {

// The value of a call that must succeed.
template <typename T>
T Value(absl::StatusOr<T> result) {
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : T();
}

class GpuRig {
 public:
  explicit GpuRig(const WorldOptions& options = With(Policy::kRandom),
                  const SimGpuOptions& gpu_options = {})
      : world_(options),
        gpus_(std::make_unique<SimGpus>(*world_, gpu_options)) {
    gpus_->OnInjected([this](FaultKind kind) { struck_.push_back(kind); });
    for (int rank : {0, 1}) drivers_.push_back(gpus_->Connect(node(rank)));
  }

  TestWorld& world() { return world_; }
  Node& node(int rank = 0) { return world_.node(rank); }
  SimGpus& gpus() { return *gpus_; }
  GpuDriver& gpu(int rank = 0) { return *drivers_[static_cast<size_t>(rank)]; }
  const std::vector<FaultKind>& struck() const { return struck_; }

  // Runs `body` on the main thread of w0. It may use the drivers of both, as if
  // the two processes told each other what each has done.
  Outcome Run(std::function<void()> body) {
    world_.Start(0, "main", [body = std::move(body)] { body(); });
    return world_.Run();
  }
  void Sleep(absl::Duration duration) {
    world_.runtime().SleepUntil(world_.After(duration));
  }

  // 64 bytes, or so many, that are filled without a stream.
  char* Memory(int rank = 0, int device = 0, char fill = 'x',
               size_t num_bytes = 64) {
    auto* const memory =
        static_cast<char*>(Value(gpu(rank).Allocate(device, num_bytes)));
    if (memory != nullptr) Fill(rank, memory, fill, num_bytes);
    return memory;
  }
  char* Pinned(int rank = 0, char fill = 'x', size_t num_bytes = 64) {
    auto* const memory =
        static_cast<char*>(Value(gpu(rank).AllocatePinned(num_bytes)));
    if (memory != nullptr) Fill(rank, memory, fill, num_bytes);
    return memory;
  }
  void Fill(int rank, char* memory, char fill, size_t num_bytes = 64) {
    EXPECT_TRUE(
        gpus().Poke(node(rank), memory, std::string(num_bytes, fill)).ok());
  }
  std::string Peek(int rank, const void* memory, size_t num_bytes = 1) {
    return Value(gpus().Peek(node(rank), memory, num_bytes));
  }
  GpuStream Stream(int rank = 0, int device = 0) {
    return Value(gpu(rank).CreateStream(device));
  }
  GpuEvent Event(int rank = 0, int device = 0, bool is_shared = false) {
    return Value(gpu(rank).CreateEvent(device, is_shared));
  }
  void Copy(void* to, const void* from, GpuStream stream, int rank = 0,
            size_t num_bytes = 64) {
    const absl::Status status = gpu(rank).Copy(to, from, num_bytes, stream);
    EXPECT_TRUE(status.ok()) << status;
  }
  // Makes `later` wait for what is on `earlier`.
  void Order(GpuStream earlier, GpuStream later, int rank = 0) {
    const GpuEvent event = Event(rank, earlier.device);
    EXPECT_TRUE(gpu(rank).Record(event, earlier).ok());
    EXPECT_TRUE(gpu(rank).Wait(later, event).ok());
    gpu(rank).DestroyEvent(event);
  }
  void Synchronize(GpuStream stream, int rank = 0) {
    const absl::Status status = gpu(rank).Synchronize(stream);
    EXPECT_TRUE(status.ok()) << status;
  }
  // What w0 exports, as `rank` sees it.
  void* Open(void* memory, int rank = 1, int device = 0) {
    return Value(
        gpu(rank).OpenMemory(device, Value(gpu().ExportMemory(0, memory))));
  }

 private:
  TestWorld world_;
  std::unique_ptr<SimGpus> gpus_;
  std::vector<std::shared_ptr<GpuDriver>> drivers_;
  std::vector<FaultKind> struck_;
};

// Under each schedule and some seeds: the body breaks no rule.
inline void ExpectClean(const std::function<void(GpuRig&)>& body,
                        int num_seeds = 10, const SimGpuOptions& options = {}) {
  for (const Policy policy : kPolicies) {
    for (int seed = 1; seed <= num_seeds; ++seed) {
      GpuRig rig(With(policy, static_cast<uint64_t>(seed)), options);
      EXPECT_EQ(rig.Run([&] { body(rig); }), Outcome::kFinished)
          << rig.world()->failed_rule() << ": " << rig.world()->failed_detail()
          << testing::PrintToString(rig.world()->DescribeFibers());
    }
  }
}

// Under each schedule and each seed: the body breaks this rule, and the report
// has all of these words.
inline void ExpectReport(const std::function<void(GpuRig&)>& body,
                         const std::string& rule,
                         const std::vector<std::string>& words,
                         int num_seeds = 10) {
  for (const Policy policy : kPolicies) {
    for (int seed = 1; seed <= num_seeds; ++seed) {
      GpuRig rig(With(policy, static_cast<uint64_t>(seed)));
      EXPECT_EQ(rig.Run([&] { body(rig); }), Outcome::kStopped) << seed;
      EXPECT_EQ(rig.world()->failed_rule(), rule);
      for (const std::string& word : words) {
        EXPECT_THAT(rig.world()->failed_detail(), testing::HasSubstr(word));
      }
    }
  }
}

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_SIM_DEVICE_GPU_TESTING_H_
