#include "agent/device/cuda/cuda_driver.h"

#include <dlfcn.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/device/cuda/fake_cuda.h"

namespace reprise {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr char kFake[] = "tests/unit/device/cuda/libfake_cuda.so";

// Numbers of CUDA's, so that the test builds without cuda.h.
constexpr int kInvalidValue = 1;
constexpr int kOutOfMemory = 2;
constexpr int kNoDevice = 100;
constexpr int kInvalidContext = 201;
constexpr int kMapFailed = 205;
constexpr int kPeerAccessUnsupported = 217;
constexpr int kNotReady = 600;
constexpr int kIllegalAddress = 700;
constexpr int kOther = 1000;

std::string Text(const absl::Status& status) {
  return std::string(status.message());
}

bool IsBuiltWithCuda() {
  return !testing::Matches(StartsWith("built without CUDA"))(
      Text(LoadCudaDriver("/nowhere").status()));
}

TEST(CudaDriverTest, SaysWhyThereAreNoGpus) {
  const absl::StatusOr<GpuDriver*> found = FindCudaDriver();
  if (found.ok()) {
    EXPECT_GT((*found)->device_count(), 0);
  } else {
    EXPECT_EQ(found.status().code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(Text(found.status()),
                testing::AnyOf(StartsWith("built without CUDA: "),
                               StartsWith("there is no "),
                               StartsWith("the NVIDIA driver is too old: ")));
  }
  EXPECT_EQ(FindCudaDriver().status(), found.status());
}

TEST(CudaDriverTest, NamesALibraryThatIsNone) {
  if (!IsBuiltWithCuda()) GTEST_SKIP() << "built without CUDA";
  const absl::Status nowhere = LoadCudaDriver("/nowhere/libcuda.so").status();
  EXPECT_EQ(nowhere.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Text(nowhere), HasSubstr("/nowhere/libcuda.so"));
  EXPECT_THAT(Text(nowhere), HasSubstr("No such file"));
  const absl::Status other = LoadCudaDriver("libm.so.6").status();
  EXPECT_EQ(other.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Text(other), HasSubstr("libm.so.6 has no cuInit"));
}

class FakeCudaTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!IsBuiltWithCuda()) GTEST_SKIP() << "built without CUDA";
    library_ = dlopen(kFake, RTLD_NOW);
    ASSERT_NE(library_, nullptr) << dlerror();
    Fail("cuInit", 0);
    driver_ = Load();
    TakeLog();
  }
  void TearDown() override {
    if (library_ == nullptr) return;
    for (const std::string& name : failing_) {
      Call<decltype(FakeCudaFail)>("FakeCudaFail")(name.c_str(), 0);
    }
    Call<decltype(FakeCudaWorkResult)>("FakeCudaWorkResult")(0);
    Version(13000);
    Call<decltype(FakeCudaCount)>("FakeCudaCount")(2);
    EXPECT_EQ(Depth(), 0);
  }

  template <typename Function>
  Function* Call(const char* name) {
    return reinterpret_cast<Function*>(dlsym(library_, name));
  }
  void Fail(const std::string& function, int result) {
    failing_.push_back(function);
    Call<decltype(FakeCudaFail)>("FakeCudaFail")(function.c_str(), result);
  }
  void Version(int version) {
    Call<decltype(FakeCudaVersion)>("FakeCudaVersion")(version);
  }
  std::string TakeLog() {
    return Call<decltype(FakeCudaTakeLog)>("FakeCudaTakeLog")();
  }
  int Depth() { return Call<decltype(FakeCudaDepth)>("FakeCudaDepth")(); }

  std::unique_ptr<GpuDriver> Load() {
    auto driver = LoadCudaDriver(kFake);
    EXPECT_TRUE(driver.ok()) << driver.status();
    return driver.ok() ? *std::move(driver) : nullptr;
  }

  void* library_ = nullptr;
  std::vector<std::string> failing_;
  std::unique_ptr<GpuDriver> driver_;
};

TEST_F(FakeCudaTest, SaysWhyADriverIsOfNoUse) {
  Version(11030);
  EXPECT_THAT(Text(LoadCudaDriver(kFake).status()),
              HasSubstr("too old: it is for CUDA 11.3, and 11.4"));
  Version(13000);
  Fail("cuInit", kNoDevice);
  EXPECT_EQ(LoadCudaDriver(kFake).status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_THAT(
      LoadCudaDriver(kFake).status().message(),
      HasSubstr("cuInit of " + std::string(kFake) + " failed: CUDA error 100"));
  Fail("cuInit", 0);
  Fail("cuDeviceGetName", kOther);
  EXPECT_EQ(LoadCudaDriver(kFake).status().code(),
            absl::StatusCode::kUnimplemented);
  Fail("cuDeviceGetName", 0);
  Call<decltype(FakeCudaCount)>("FakeCudaCount")(0);
  EXPECT_THAT(Text(LoadCudaDriver(kFake).status()),
              HasSubstr("no NVIDIA GPU that is visible"));
}

TEST_F(FakeCudaTest, Properties) {
  ASSERT_EQ(driver_->device_count(), 2);
  const GpuProperties& properties = driver_->properties(1);
  EXPECT_EQ(properties.name, "Fake GPU");
  EXPECT_EQ(properties.uuid, "a0a1a2a3-a4a5-a6a7-a8a9-aaabacadae01");
  EXPECT_EQ(properties.pci_bus_id, "0000:1b:00.0");
  EXPECT_EQ(properties.memory_bytes, size_t{80} << 30);
  EXPECT_TRUE(properties.has_unified_addressing);
  EXPECT_TRUE(properties.is_compute_mode_default);
  EXPECT_EQ(driver_->properties(2).name, "");
}

TEST_F(FakeCudaTest, PeersAreKnownByTheirUuid) {
  const std::string& first = driver_->properties(0).uuid;
  const std::string& second = driver_->properties(1).uuid;
  EXPECT_TRUE(driver_->CanReadPeer(0, second));
  EXPECT_FALSE(driver_->CanReadPeer(1, first));
  EXPECT_TRUE(driver_->CanReadPeer(1, second));
  EXPECT_FALSE(driver_->CanReadPeer(0, "another machine's"));
  EXPECT_FALSE(driver_->CanReadPeer(2, first));
}

TEST_F(FakeCudaTest, ContextsAreMadeWhenTheirDeviceIsUsed) {
  EXPECT_TRUE(driver_->Allocate(1, 8).ok());
  EXPECT_EQ(TakeLog(), "cuDevicePrimaryCtxRetain(-) cuMemAlloc(1) ");
  // Memory of the host belongs to a device that is in use anyway.
  EXPECT_TRUE(driver_->AllocatePinned(8).ok());
  EXPECT_EQ(TakeLog(), "cuMemHostAlloc(1) ");
  EXPECT_TRUE(driver_->Synchronize(GpuStream{0, 0}).ok());
  EXPECT_EQ(TakeLog(),
            "cuDevicePrimaryCtxRetain(-) cuCtxEnablePeerAccess(0) "
            "cuCtxEnablePeerAccess(1) cuStreamSynchronize(0) ");
}

TEST_F(FakeCudaTest, AContextThatCannotBeMadeNowMayBeMadeLater) {
  Fail("cuDevicePrimaryCtxRetain", kOutOfMemory);
  EXPECT_EQ(driver_->Allocate(0, 8).status().code(),
            absl::StatusCode::kResourceExhausted);
  Fail("cuDevicePrimaryCtxRetain", 0);
  EXPECT_TRUE(driver_->Allocate(0, 8).ok());
}

// From memory of the host that the driver knows.
TEST_F(FakeCudaTest, FewBytesGoAsRows) {
  const GpuStream stream{1, 5};
  char* const gpu = reinterpret_cast<char*>(0x10000);
  char* const host = gpu + 1;
  ASSERT_TRUE(driver_->Allocate(1, 8).ok());
  const auto log_of = [&](const char* from, size_t num_bytes) {
    TakeLog();
    EXPECT_TRUE(driver_->Copy(gpu, from, num_bytes, stream).ok());
    return TakeLog();
  };
  EXPECT_EQ(log_of(host, 8),
            "cuPointerGetAttributes(1) cuMemcpy2DAsync 4x2 at 0(1) ");
  EXPECT_EQ(log_of(host, 9),
            "cuPointerGetAttributes(1) cuMemcpy2DAsync 4x2 at 0(1) "
            "cuMemcpy2DAsync 1x2 at 7(1) ");
  EXPECT_EQ(log_of(host, 3),
            "cuPointerGetAttributes(1) cuMemcpy2DAsync 1x2 at 0(1) "
            "cuMemcpy2DAsync 1x2 at 1(1) ");
  EXPECT_EQ(log_of(host, 1), "cuMemcpyAsync(1) ");
  EXPECT_EQ(log_of(host, 32768), "cuMemcpyAsync(1) ");
  EXPECT_EQ(log_of(gpu, 8), "cuPointerGetAttributes(1) cuMemcpyAsync(1) ");
  EXPECT_EQ(log_of(nullptr, 8), "cuPointerGetAttributes(1) cuMemcpyAsync(1) ");
  Fail("cuMemcpy2DAsync 1x2 at 7", kOutOfMemory);
  TakeLog();
  EXPECT_FALSE(driver_->Copy(gpu, host, 9, stream).ok());
  EXPECT_THAT(TakeLog(), testing::HasSubstr("cuStreamSynchronize(1)"));
  Fail("cuMemcpy2DAsync 4x2 at 0", kOutOfMemory);
  EXPECT_EQ(driver_->Copy(gpu, host, 9, stream).message(),
            "cuMemcpy2DAsync on cuda:1 failed: CUDA_ERROR_OUT_OF_MEMORY (some "
            "words)");
}

// Each function, by the name of CUDA's.
struct Row {
  const char* name;
  std::function<absl::Status(GpuDriver&)> call;
};

std::vector<Row> AllFunctions() {
  const GpuStream stream{1, 5};
  const GpuEvent event{1, 7};
  char* const memory = reinterpret_cast<char*>(0x10000);
  return {
      {"cuMemAlloc", [](GpuDriver& d) { return d.Allocate(1, 8).status(); }},
      {"cuMemHostAlloc",
       [](GpuDriver& d) { return d.AllocatePinned(8).status(); }},
      {"cuMemHostRegister",
       [=](GpuDriver& d) { return d.RegisterHost(memory, 8); }},
      {"cuStreamCreate",
       [](GpuDriver& d) { return d.CreateStream(1).status(); }},
      {"cuStreamSynchronize",
       [=](GpuDriver& d) { return d.Synchronize(stream); }},
      {"cuMemcpyAsync",
       [=](GpuDriver& d) { return d.Copy(memory, memory, 1 << 20, stream); }},
      {"cuStreamAddCallback",
       [=](GpuDriver& d) {
         return d.AddCallback(stream, [](absl::Status) {});
       }},
      {"cuEventCreate",
       [](GpuDriver& d) { return d.CreateEvent(1, false).status(); }},
      {"cuEventRecord", [=](GpuDriver& d) { return d.Record(event, stream); }},
      {"cuStreamWaitEvent",
       [=](GpuDriver& d) { return d.Wait(stream, event); }},
      {"cuEventQuery", [=](GpuDriver& d) { return d.IsDone(event).status(); }},
      {"cuEventSynchronize",
       [=](GpuDriver& d) { return d.Synchronize(event); }},
      {"cuIpcGetMemHandle",
       [=](GpuDriver& d) { return d.ExportMemory(1, memory).status(); }},
      {"cuIpcOpenMemHandle",
       [](GpuDriver& d) {
         return d.OpenMemory(1, std::string(64, 'm')).status();
       }},
      {"cuIpcGetEventHandle",
       [=](GpuDriver& d) { return d.ExportEvent(event).status(); }},
      {"cuIpcOpenEventHandle",
       [](GpuDriver& d) {
         return d.OpenEvent(1, std::string(64, 'e')).status();
       }},
  };
}

TEST_F(FakeCudaTest, ErrorsAreStatusesOfTheDriversName) {
  ASSERT_TRUE(driver_->Allocate(1, 8).ok());
  for (const Row& row : AllFunctions()) {
    SCOPED_TRACE(row.name);
    TakeLog();
    EXPECT_TRUE(row.call(*driver_).ok());
    EXPECT_EQ(TakeLog(), std::string(row.name) + "(1) ");
    for (const auto& [result, code] :
         {std::pair(kOutOfMemory, absl::StatusCode::kResourceExhausted),
          std::pair(kPeerAccessUnsupported, absl::StatusCode::kUnimplemented),
          std::pair(kMapFailed, absl::StatusCode::kUnimplemented),
          std::pair(kOther, absl::StatusCode::kInternal)}) {
      Fail(row.name, result);
      EXPECT_EQ(row.call(*driver_).code(), code) << result;
    }
    Fail(row.name, kOutOfMemory);
    EXPECT_EQ(row.call(*driver_).message(),
              std::string(row.name) +
                  " on cuda:1 failed: CUDA_ERROR_OUT_OF_MEMORY (some words)");
    Fail(row.name, 0);
    EXPECT_TRUE(row.call(*driver_).ok());
    EXPECT_EQ(Depth(), 0);
  }
}

TEST_F(FakeCudaTest, ALostDeviceStaysLostAndTheOthersGoOn) {
  for (const Row& row : AllFunctions()) {
    SCOPED_TRACE(row.name);
    driver_ = Load();
    ASSERT_TRUE(driver_->Allocate(1, 8).ok());
    Fail(row.name, kIllegalAddress);
    EXPECT_EQ(row.call(*driver_).code(), absl::StatusCode::kUnavailable);
    Fail(row.name, 0);
    const absl::Status lost = driver_->Allocate(1, 8).status();
    EXPECT_EQ(lost.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(Text(lost),
                StartsWith("cuda:1 is lost: CUDA_ERROR_ILLEGAL_ADDRESS"));
    EXPECT_TRUE(driver_->Allocate(0, 8).ok());
    EXPECT_TRUE(driver_->AllocatePinned(8).ok());
    TakeLog();
    // Its memory cannot be freed any more.
    driver_->Free(1, nullptr);
    driver_->DestroyEvent({1, 7});
    driver_->DestroyStream({1, 5});
    driver_->CloseMemory(1, nullptr);
    EXPECT_EQ(TakeLog(), "");
  }
}

TEST_F(FakeCudaTest, MemoryOfTheHostNeedsNoCertainDevice) {
  for (int lost : {0, 1}) {
    driver_ = Load();
    Fail("cuStreamSynchronize", kIllegalAddress);
    EXPECT_FALSE(driver_->Synchronize(GpuStream{lost, 0}).ok());
    EXPECT_TRUE(driver_->AllocatePinned(8).ok());
    EXPECT_TRUE(driver_->RegisterHost(nullptr, 8).ok());
  }
}

TEST_F(FakeCudaTest, TheCallersContextStaysCurrent) {
  int context = 0;
  Call<int(void*)>("cuCtxPushCurrent_v2")(&context);
  for (const Row& row : AllFunctions()) {
    EXPECT_TRUE(row.call(*driver_).ok()) << row.name;
  }
  EXPECT_TRUE(driver_->FindAllocation(reinterpret_cast<void*>(0x10000)).ok());
  void* current = nullptr;
  Call<int(void**)>("cuCtxGetCurrent")(&current);
  EXPECT_EQ(current, &context);
  Call<int(void**)>("cuCtxPopCurrent_v2")(&current);
}

TEST_F(FakeCudaTest, ThereIsNoDeviceBeyondTheLast) {
  for (int device : {-1, 2}) {
    EXPECT_EQ(driver_->Allocate(device, 8).status().code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(driver_->Synchronize(GpuStream{device, 0}).code(),
              absl::StatusCode::kInvalidArgument);
    driver_->Free(device, nullptr);
  }
  EXPECT_EQ(TakeLog(), "");
}

TEST_F(FakeCudaTest, HandlesAreTheDriversAndStreamsDoNotBlock) {
  // CU_STREAM_NON_BLOCKING, CU_EVENT_DISABLE_TIMING, CU_EVENT_INTERPROCESS
  EXPECT_EQ(driver_->CreateStream(1)->handle, 0x500u + 1);
  EXPECT_EQ(driver_->CreateEvent(1, false)->handle, 0x700u + 2);
  EXPECT_EQ(driver_->CreateEvent(1, true)->handle, 0x700u + 2 + 4);
  EXPECT_EQ(driver_->CreateEvent(1, true)->device, 1);
}

TEST_F(FakeCudaTest, AnEventThatIsNotReadyIsNoError) {
  EXPECT_EQ(*driver_->IsDone({0, 7}), true);
  Fail("cuEventQuery", kNotReady);
  EXPECT_EQ(*driver_->IsDone({0, 7}), false);
}

TEST_F(FakeCudaTest, CallbacksGetTheStatusOfTheWork) {
  std::vector<absl::Status> statuses;
  const auto add = [&] {
    return driver_->AddCallback({1, 5}, [&](absl::Status status) {
      statuses.push_back(std::move(status));
    });
  };
  EXPECT_TRUE(add().ok());
  Call<decltype(FakeCudaWorkResult)>("FakeCudaWorkResult")(kIllegalAddress);
  EXPECT_TRUE(add().ok());
  ASSERT_EQ(statuses.size(), 2u);
  EXPECT_TRUE(statuses[0].ok());
  EXPECT_EQ(statuses[1].code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(driver_->Allocate(1, 8).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(FakeCudaTest, ACallbackIsCalledOrTheCallFails) {
  auto token = std::make_shared<int>();
  int calls = 0;
  const auto add = [&] {
    return driver_->AddCallback({1, 5},
                                [&calls, token](absl::Status) { ++calls; });
  };
  Fail("cuStreamAddCallback", kOther);
  EXPECT_EQ(add().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(token.use_count(), 1);
  // A driver that reports an error and calls nevertheless.
  Fail("cuStreamAddCallback!", 1);
  EXPECT_TRUE(add().ok());
  EXPECT_EQ(calls, 1);
}

TEST_F(FakeCudaTest, AllocationsAreFoundInAnyContext) {
  char* const base = reinterpret_cast<char*>(0x10000);
  // No context is made for it.
  auto found = driver_->FindAllocation(base + 8);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(TakeLog(), "cuPointerGetAttributes(-) ");
  EXPECT_EQ(found->device, 1);
  EXPECT_EQ(found->base, base);
  EXPECT_EQ(found->num_bytes, 0x10000u);
  EXPECT_EQ(found->id, 77u);
  EXPECT_TRUE(found->may_be_exported);
  // Unless the driver insists.
  Fail("cuPointerGetAttributes", kInvalidContext);
  EXPECT_FALSE(driver_->FindAllocation(base).ok());
  EXPECT_EQ(TakeLog(),
            "cuPointerGetAttributes(-) cuDevicePrimaryCtxRetain(-) "
            "cuPointerGetAttributes(0) ");
  Fail("cuPointerGetAttributes", 0);
  EXPECT_TRUE(absl::IsNotFound(driver_->FindAllocation(base + 1).status()));
  EXPECT_TRUE(absl::IsNotFound(driver_->FindAllocation(nullptr).status()));
  EXPECT_TRUE(absl::IsNotFound(driver_->FindAllocation(&found).status()));
  Fail("cuPointerGetAttributes", kInvalidValue);
  EXPECT_TRUE(absl::IsNotFound(driver_->FindAllocation(base).status()));
  Fail("cuPointerGetAttributes", kOther);
  EXPECT_EQ(driver_->FindAllocation(base).status().code(),
            absl::StatusCode::kInternal);
  EXPECT_EQ(Depth(), 0);
}

TEST_F(FakeCudaTest, AHandleThatIsNoneIsThePeersFault) {
  const auto memory = driver_->ExportMemory(0, nullptr);
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(*memory, std::string(64, 'm'));
  EXPECT_TRUE(driver_->OpenMemory(1, *memory).ok());
  const auto event = driver_->ExportEvent({0, 7});
  ASSERT_TRUE(event.ok());
  EXPECT_EQ(driver_->OpenEvent(1, *event)->handle, 0x900u);
  TakeLog();
  for (size_t size : {0, 63, 65}) {
    const std::string handle(size, 'm');
    EXPECT_TRUE(
        absl::IsInvalidArgument(driver_->OpenMemory(0, handle).status()));
    EXPECT_TRUE(
        absl::IsInvalidArgument(driver_->OpenEvent(0, handle).status()));
  }
  EXPECT_EQ(TakeLog(), "");
  const std::string wrong(64, 'x');
  EXPECT_TRUE(absl::IsInvalidArgument(driver_->OpenMemory(0, wrong).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(driver_->OpenEvent(0, wrong).status()));
  EXPECT_THAT(Text(driver_->OpenMemory(0, wrong).status()),
              HasSubstr("namespaces"));
}

TEST_F(FakeCudaTest, NothingIsCopiedForNoBytes) {
  EXPECT_TRUE(driver_->Copy(nullptr, nullptr, 0, {1, 5}).ok());
  EXPECT_EQ(TakeLog(), "");
}

}  // namespace
}  // namespace reprise
