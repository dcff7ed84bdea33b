#include "agent/device/dlpack.h"

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/device/devices.h"
#include "agent/runtime/runtime.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/device/fake_gpus.h"

namespace reprise {
namespace {

using testing::ElementsAre;

// A tensor of another library, which counts the calls of its deleter.
struct Foreign {
  explicit Foreign(std::vector<int64_t> shape,
                   std::vector<int64_t> strides = {})
      : shape(std::move(shape)), strides(std::move(strides)) {
    view().data = bytes;
    view().device = {kDLCPU, 0};
    view().ndim = static_cast<int>(this->shape.size());
    view().dtype = {kDLFloat, 32, 1};
    view().shape = this->shape.data();
    view().strides = this->strides.empty() ? nullptr : this->strides.data();
    managed.manager_ctx = this;
    managed.deleter = [](DLManagedTensor* managed) {
      ++static_cast<Foreign*>(managed->manager_ctx)->deletions;
    };
  }
  Foreign(const Foreign&) = delete;
  Foreign& operator=(const Foreign&) = delete;

  DLTensor& view() { return managed.dl_tensor; }

  // Whether it is refused with such a text, and left to its owner.
  testing::AssertionResult IsRefused(const std::string& text,
                                     Devices* devices = nullptr) {
    const auto tensor = FromDlpack(&managed, devices);
    if (tensor.ok()) return testing::AssertionFailure() << "it is taken";
    if (!absl::IsInvalidArgument(tensor.status()) ||
        tensor.status().message().find(text) == std::string::npos) {
      return testing::AssertionFailure() << tensor.status();
    }
    if (deletions != 0) return testing::AssertionFailure() << "it is deleted";
    return testing::AssertionSuccess();
  }

  alignas(64) char bytes[256] = {};
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;
  DLManagedTensor managed = {};
  int deletions = 0;
};

TEST(DlpackTest, AllTypesGoOutAndComeBack) {
  for (size_t i = 0; i < kNumDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    auto tensor = MakeTensor(dtype, {2, 3});
    ASSERT_TRUE(tensor.ok()) << tensor.status();
    auto out = ToDlpack(*tensor);
    ASSERT_TRUE(out.ok()) << out.status();
    const DLTensor& view = (*out)->dl_tensor;
    EXPECT_EQ(view.data, tensor->storage->data());
    EXPECT_EQ(view.device.device_type, kDLCPU);
    EXPECT_EQ(view.dtype.bits, 8 * SizeOf(dtype));
    EXPECT_EQ(view.dtype.lanes, 1);
    auto back = FromDlpack(*out, nullptr);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->dtype, dtype);
    EXPECT_EQ(back->sizes, tensor->sizes);
    EXPECT_EQ(back->strides, tensor->strides);
    EXPECT_EQ(back->storage->data(), tensor->storage->data());
    EXPECT_EQ(back->storage->num_bytes(), 6 * SizeOf(dtype));
    EXPECT_TRUE(back->storage->owns_memory());
    EXPECT_TRUE(CheckBounds(*back).ok());
  }
}

TEST(DlpackTest, CodesAreThoseOfTheStandard) {
  const auto code = [](DType dtype) {
    DLManagedTensor* const out = *ToDlpack(*MakeTensor(dtype, {}));
    const int code = out->dl_tensor.dtype.code;
    out->deleter(out);
    return code;
  };
  EXPECT_EQ(code(DType::kInt8), 0);
  EXPECT_EQ(code(DType::kUInt8), 1);
  EXPECT_EQ(code(DType::kFloat16), 2);
  EXPECT_EQ(code(DType::kBFloat16), 4);
  EXPECT_EQ(code(DType::kComplex64), 5);
  EXPECT_EQ(code(DType::kBool), 6);
  EXPECT_EQ(code(DType::kUInt64), 1);
  EXPECT_EQ(code(DType::kFloat8E4M3FN), 10);
  EXPECT_EQ(code(DType::kFloat8E4M3FNUZ), 11);
  EXPECT_EQ(code(DType::kFloat8E5M2), 12);
  EXPECT_EQ(code(DType::kFloat8E5M2FNUZ), 13);
  EXPECT_EQ(code(DType::kFloat8E8M0FNU), 14);
}

TEST(DlpackTest, AViewKeepsTheStorage) {
  auto tensor = MakeTensor(DType::kInt32, {4, 4});
  ASSERT_TRUE(tensor.ok());
  // The transposed right half.
  tensor->sizes = {2, 4};
  tensor->strides = {1, 4};
  tensor->storage_offset = 2;
  auto* const data = static_cast<int32_t*>(tensor->storage->data());
  data[4 * 3 + 3] = 42;
  const std::weak_ptr<Storage> storage = tensor->storage;
  auto out = ToDlpack(*tensor);
  ASSERT_TRUE(out.ok()) << out.status();
  tensor->storage.reset();
  EXPECT_FALSE(storage.expired());
  const DLTensor& view = (*out)->dl_tensor;
  EXPECT_EQ(view.data, data + 2);
  EXPECT_EQ(view.byte_offset, 0u);
  ASSERT_EQ(view.ndim, 2);
  EXPECT_EQ(view.shape[1], 4);
  EXPECT_EQ(view.strides[1], 4);

  auto back = FromDlpack(*out, nullptr);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_THAT(back->sizes, ElementsAre(2, 4));
  EXPECT_THAT(back->strides, ElementsAre(1, 4));
  EXPECT_EQ(back->storage_offset, 0);
  // From the first to the last element that is viewed.
  EXPECT_EQ(back->storage->num_bytes(), 4u * (4 * 3 + 1 + 1));
  EXPECT_EQ(static_cast<int32_t*>(back->storage->data())[1 + 4 * 3], 42);
  EXPECT_FALSE(storage.expired());
  back->storage.reset();
  EXPECT_TRUE(storage.expired());
}

TEST(DlpackTest, OnlyTensorsInsideTheirStorageGoOut) {
  auto tensor = MakeTensor(DType::kInt32, {4});
  tensor->sizes = {5};
  EXPECT_TRUE(absl::IsInvalidArgument(ToDlpack(*tensor).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ToDlpack(Tensor()).status()));
}

TEST(DlpackTest, TheDeleterIsCalledOnceWithTheLastStorage) {
  Foreign foreign({2, 2});
  auto tensor = FromDlpack(&foreign.managed, nullptr);
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  Tensor copy = *tensor;
  tensor->storage.reset();
  EXPECT_EQ(foreign.deletions, 0);
  copy.storage.reset();
  EXPECT_EQ(foreign.deletions, 1);

  Foreign immortal({1});
  immortal.managed.deleter = nullptr;
  EXPECT_TRUE(FromDlpack(&immortal.managed, nullptr).ok());
}

TEST(DlpackTest, WithoutStridesItIsRowMajor) {
  Foreign foreign({2, 3, 4});
  auto tensor = FromDlpack(&foreign.managed, nullptr);
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_THAT(tensor->strides, ElementsAre(12, 4, 1));
  EXPECT_EQ(tensor->storage->data(), foreign.bytes);
  EXPECT_EQ(tensor->storage->num_bytes(), 96u);
}

TEST(DlpackTest, NoDimensionsAreOneElement) {
  Foreign foreign({});
  foreign.view().shape = nullptr;
  foreign.view().byte_offset = 8;
  auto tensor = FromDlpack(&foreign.managed, nullptr);
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ(tensor->num_elements(), 1);
  EXPECT_EQ(tensor->storage->data(), foreign.bytes + 8);
  EXPECT_EQ(tensor->storage->num_bytes(), 4u);
}

TEST(DlpackTest, NoElementsNeedNoData) {
  Foreign foreign({3, 0, 2});
  foreign.view().data = nullptr;
  foreign.view().byte_offset = std::numeric_limits<uint64_t>::max();
  auto tensor = FromDlpack(&foreign.managed, nullptr);
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_THAT(tensor->strides, ElementsAre(2, 2, 1));
  EXPECT_EQ(tensor->storage->num_bytes(), 0u);
  EXPECT_EQ(tensor->storage->data(), nullptr);
  EXPECT_TRUE(CheckBounds(*tensor).ok());
  auto out = ToDlpack(*tensor);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ((*out)->dl_tensor.data, nullptr);
  (*out)->deleter(*out);
  tensor->storage.reset();
  EXPECT_EQ(foreign.deletions, 1);
}

TEST(DlpackTest, WhatIsNotUnderstoodIsLeftToItsOwner) {
  EXPECT_TRUE(absl::IsInvalidArgument(FromDlpack(nullptr, nullptr).status()));
  const auto with = [](const auto& change) {
    auto foreign = std::make_unique<Foreign>(std::vector<int64_t>{2, 2},
                                             std::vector<int64_t>{2, 1});
    change(*foreign);
    return foreign;
  };
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max() / 2;
  const auto type = [&](DLDataType type) {
    return with([&](Foreign& f) { f.view().dtype = type; });
  };
  for (const DLDataType& unknown :
       std::vector<DLDataType>{{kDLFloat, 32, 4},
                               {kDLFloat, 32, 0},
                               {kDLFloat, 8, 1},
                               {kDLUInt, 128, 1},
                               {kDLOpaqueHandle, 64, 1},
                               {6, 1, 1},
                               {7, 8, 1}}) {
    EXPECT_TRUE(type(unknown)->IsRefused("is not supported"));
  }
  EXPECT_TRUE(with([](Foreign& f) {
                f.view().ndim = -1;
              })->IsRefused("0 to 64 dimensions"));
  EXPECT_TRUE(with([](Foreign& f) {
                f.view().ndim = 65;
              })->IsRefused("0 to 64 dimensions"));
  EXPECT_TRUE(with([](Foreign& f) {
                f.view().shape = nullptr;
              })->IsRefused("no shape"));
  EXPECT_TRUE(
      with([](Foreign& f) { f.view().data = nullptr; })->IsRefused("no data"));
  EXPECT_TRUE(with([](Foreign& f) { f.shape[0] = -2; })->IsRefused("negative"));
  EXPECT_TRUE(
      with([](Foreign& f) { f.strides[1] = -1; })->IsRefused("negative"));
  EXPECT_TRUE(with([](Foreign& f) {
                f.shape[0] = f.shape[1] = kHuge;
              })->IsRefused("overflow"));
  EXPECT_TRUE(with([](Foreign& f) {
                f.strides[0] = f.strides[1] = kHuge;
              })->IsRefused("overflow"));
  // The elements fit, and their bytes do not.
  EXPECT_TRUE(
      with([](Foreign& f) { f.strides[0] = kHuge; })->IsRefused("overflow"));
  EXPECT_TRUE(with([](Foreign& f) {
                f.view().byte_offset = ~uint64_t{0};
              })->IsRefused("last address"));
  EXPECT_TRUE(with([](Foreign& f) {
                f.view().device = {kDLROCM, 0};
              })->IsRefused("devices of type 10"));
  EXPECT_TRUE(with([](Foreign& f) {
                f.view().device = {kDLCUDAManaged, 0};
              })->IsRefused("devices of type 13"));
  EXPECT_TRUE(with([](Foreign& f) {
                f.view().device = {kDLCUDA, 0};
              })->IsRefused("only those of CPUs"));
}

TEST(DlpackTest, PinnedMemoryIsOfTheHost) {
  Foreign foreign({2});
  foreign.view().device = {kDLCUDAHost, 0};
  auto tensor = FromDlpack(&foreign.managed, nullptr);
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ(tensor->storage->device(), CpuDevice());
}

class GpuDlpackTest : public testing::Test {
 protected:
  FakeGpus gpus{2};
  Devices devices{RealRuntime(), &gpus};
};

TEST_F(GpuDlpackTest, MemoryOfAGpuGoesOutAndComesBack) {
  auto storage = devices.Allocate(GpuDevice(1), 24, {});
  ASSERT_TRUE(storage.ok()) << storage.status();
  Tensor tensor;
  tensor.dtype = DType::kFloat64;
  tensor.sizes = {2};
  tensor.strides = {1};
  tensor.storage_offset = 1;
  tensor.storage = *std::move(storage);
  auto out = ToDlpack(tensor);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ((*out)->dl_tensor.device.device_type, kDLCUDA);
  EXPECT_EQ((*out)->dl_tensor.device.device_id, 1);
  auto back = FromDlpack(*out, &devices);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->storage->device(), GpuDevice(1));
  EXPECT_EQ(back->storage->data(),
            static_cast<char*>(tensor.storage->data()) + 8);
}

TEST_F(GpuDlpackTest, TheDeleterWaitsForTheStreams) {
  void* const memory = *gpus.Allocate(0, 64);
  const GpuStream stream{0, 9};
  Foreign foreign({4});
  foreign.view().device = {kDLCUDA, 0};
  foreign.view().data = memory;
  auto tensor = FromDlpack(&foreign.managed, &devices);
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  gpus.Hold(stream);
  tensor->storage->RecordUse(stream);
  tensor->storage.reset();
  EXPECT_EQ(foreign.deletions, 0);
  gpus.Release(stream);
  devices.gpu_memory()->Poll();
  EXPECT_EQ(foreign.deletions, 1);
  gpus.Free(0, memory);
}

TEST_F(GpuDlpackTest, TheDeviceMustBeThatOfTheMemory) {
  void* const memory = *gpus.Allocate(1, 64);
  Foreign foreign({4});
  foreign.view().data = memory;
  foreign.view().device = {kDLCUDA, 0};
  EXPECT_TRUE(foreign.IsRefused("its data is on cuda:1", &devices));
  foreign.view().device = {kDLCUDA, 2};
  EXPECT_TRUE(foreign.IsRefused("there is no device cuda:2", &devices));
  foreign.view().device = {kDLCUDA, -1};
  EXPECT_TRUE(foreign.IsRefused("there is no device cuda:-1", &devices));
  foreign.view().device = {kDLCUDA, 1};
  foreign.view().data = foreign.bytes;
  EXPECT_TRUE(foreign.IsRefused("in no memory of a GPU", &devices));
  Devices without;
  EXPECT_TRUE(foreign.IsRefused("uses CPUs only", &without));
  gpus.Free(1, memory);
}

}  // namespace
}  // namespace reprise
