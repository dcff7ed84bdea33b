#include "agent/device/device.h"

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>

#include "absl/status/status.h"
#include "agent/device/devices.h"
#include "gtest/gtest.h"
#include "tensorpipe/common/cpu_buffer.h"

// The sanitizers' allocators abort on what they think absurd, unless told.
// NOLINTNEXTLINE(bugprone-reserved-identifier): the sanitizer's name
extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1";
}
// NOLINTNEXTLINE(bugprone-reserved-identifier): the sanitizer's name
extern "C" const char* __tsan_default_options() {
  return "allocator_may_return_null=1";
}

namespace reprise {
namespace {

TEST(DeviceTest, NamesItself) {
  EXPECT_EQ(Device{}.ToString(), "cpu:0");
  EXPECT_EQ((Device{"cuda", 1}).ToString(), "cuda:1");
  EXPECT_NE((Device{"cpu", 1}), Device{});
}

TEST(DeviceTest, AllocatesWritableMemory) {
  auto storage = AllocateCpu(4096);
  ASSERT_TRUE(storage.ok()) << storage.status();
  EXPECT_EQ((*storage)->num_bytes(), 4096u);
  EXPECT_EQ((*storage)->device(), Device{});
  EXPECT_TRUE((*storage)->owns_memory());
  ASSERT_NE((*storage)->data(), nullptr);
  std::memset((*storage)->data(), 7, 4096);
}

TEST(DeviceTest, NoBytesHaveNoAddress) {
  auto storage = AllocateCpu(0);
  ASSERT_TRUE(storage.ok()) << storage.status();
  EXPECT_EQ((*storage)->num_bytes(), 0u);
  EXPECT_EQ((*storage)->data(), nullptr);
  char byte;
  EXPECT_EQ(BorrowCpu(&byte, 0)->data(), nullptr);
}

TEST(DeviceTest, NoMemoryIsAnError) {
  // Beyond any address space, within and beyond what an object may be.
  for (size_t size : {size_t{1} << 62, std::numeric_limits<size_t>::max()}) {
    auto storage = AllocateCpu(size);
    EXPECT_EQ(storage.status().code(), absl::StatusCode::kResourceExhausted)
        << size;
  }
}

TEST(DeviceTest, BorrowedMemoryIsTheCallers) {
  char bytes[8];
  std::shared_ptr<Storage> storage = BorrowCpu(bytes, sizeof(bytes));
  EXPECT_EQ(storage->data(), bytes);
  EXPECT_EQ(storage->num_bytes(), 8u);
  EXPECT_FALSE(storage->owns_memory());
}

TEST(DeviceTest, CpuIsTheOnlyBackend) {
  const Devices devices;
  DeviceBackend* backend = devices.Find("cpu");
  ASSERT_NE(backend, nullptr);
  EXPECT_EQ(devices.Find("cuda"), nullptr);
  EXPECT_EQ(devices.Find(""), nullptr);

  auto storage = backend->Allocate(Device{}, 16);
  ASSERT_TRUE(storage.ok()) << storage.status();
  tensorpipe::Buffer buffer = backend->ToBuffer(**storage);
  EXPECT_EQ(buffer.device().toString(), "cpu:0");
  EXPECT_EQ(buffer.unwrap<tensorpipe::CpuBuffer>().ptr, (*storage)->data());

  EXPECT_EQ(backend->Allocate(Device{"cpu", 1}, 16).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace reprise
