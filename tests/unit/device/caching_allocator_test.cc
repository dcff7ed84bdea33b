#include "agent/device/caching_allocator.h"

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "agent/runtime/runtime.h"
#include "gtest/gtest.h"

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

constexpr size_t kMiB = size_t{1} << 20;

TEST(CachingAllocatorTest, MemoryIsAlignedAndUsedAgain) {
  CachingAllocator allocator(RealRuntime(), 16 * kMiB);
  void* first = nullptr;
  for (int i = 0; i < 3; ++i) {
    auto storage = allocator.Allocate(kMiB + 1);
    ASSERT_TRUE(storage.ok()) << storage.status();
    EXPECT_EQ((*storage)->num_bytes(), kMiB + 1);
    EXPECT_EQ((*storage)->device(), Device{});
    EXPECT_TRUE((*storage)->owns_memory());
    const auto address = reinterpret_cast<uintptr_t>((*storage)->data());
    EXPECT_EQ(address % kCpuAlignment, 0u);
    std::memset((*storage)->data(), i, kMiB + 1);
    if (i == 0) first = (*storage)->data();
    EXPECT_EQ((*storage)->data(), first);
  }
  EXPECT_EQ(allocator.stats().hits, 2);
  EXPECT_EQ(allocator.stats().misses, 1);
  EXPECT_GE(allocator.stats().cached_bytes, static_cast<int64_t>(kMiB));
}

TEST(CachingAllocatorTest, NeverGivesOutWhatIsUsed) {
  CachingAllocator allocator(RealRuntime(), 16 * kMiB);
  auto one = allocator.Allocate(kMiB);
  auto two = allocator.Allocate(kMiB);
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_NE((*one)->data(), (*two)->data());
}

TEST(CachingAllocatorTest, ABlockThatIsMuchTooLargeIsNotTaken) {
  CachingAllocator allocator(RealRuntime(), 64 * kMiB);
  allocator.Allocate(16 * kMiB).IgnoreError();
  allocator.Allocate(8 * kMiB).IgnoreError();
  EXPECT_EQ(allocator.stats().hits, 0);
  allocator.Allocate(15 * kMiB).IgnoreError();
  EXPECT_EQ(allocator.stats().hits, 1);
}

TEST(CachingAllocatorTest, KeepsTheLatestUpToItsBound) {
  CachingAllocator allocator(RealRuntime(), 4 * kMiB);
  const auto cached = [&] {
    return static_cast<size_t>(allocator.stats().cached_bytes);
  };
  std::vector<std::shared_ptr<Storage>> storages;
  for (size_t mib : {1, 2, 3}) {
    auto storage = allocator.Allocate(mib * kMiB);
    ASSERT_TRUE(storage.ok());
    storages.push_back(*std::move(storage));
  }
  storages[0].reset();
  storages[1].reset();
  EXPECT_EQ(cached(), 3 * kMiB);
  storages[2].reset();  // pushes the others out: 3 + 2 are too many
  EXPECT_EQ(cached(), 3 * kMiB);
  allocator.Allocate(3 * kMiB).IgnoreError();
  EXPECT_EQ(allocator.stats().hits, 1);
  allocator.Allocate(5 * kMiB).IgnoreError();  // alone too large
  EXPECT_LE(cached(), 4 * kMiB);
  allocator.Trim();
  EXPECT_EQ(cached(), 0u);
}

TEST(CachingAllocatorTest, SmallAndAbsurdSizesAreTheCLibrarys) {
  CachingAllocator allocator(RealRuntime(), kMiB);
  auto none = allocator.Allocate(0);
  ASSERT_TRUE(none.ok());
  EXPECT_EQ((*none)->data(), nullptr);
  auto small = allocator.Allocate(100);
  ASSERT_TRUE(small.ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>((*small)->data()) % kCpuAlignment, 0u);
  EXPECT_EQ(allocator.stats().misses, 0);
  for (size_t size : {size_t{1} << 61, std::numeric_limits<size_t>::max()}) {
    EXPECT_TRUE(absl::IsResourceExhausted(allocator.Allocate(size).status()));
  }
}

TEST(CachingAllocatorTest, StoragesMayOutliveIt) {
  std::optional<CachingAllocator> allocator(std::in_place, RealRuntime(),
                                            kMiB * 8);
  auto storage = allocator->Allocate(kMiB);
  ASSERT_TRUE(storage.ok());
  allocator.reset();
  std::memset((*storage)->data(), 1, kMiB);
}

TEST(CachingAllocatorTest, ManyThreads) {
  CachingAllocator allocator(RealRuntime(), 4 * kMiB);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&allocator, t] {
      for (int i = 0; i < 200; ++i) {
        const size_t size =
            CachingAllocator::kSmallest * static_cast<size_t>(1 + (i + t) % 6);
        auto storage = allocator.Allocate(size);
        ASSERT_TRUE(storage.ok());
        auto* bytes = static_cast<char*>((*storage)->data());
        bytes[0] = bytes[size - 1] = static_cast<char>(t);
        std::this_thread::yield();
        ASSERT_EQ(bytes[0], static_cast<char>(t));
        ASSERT_EQ(bytes[size - 1], static_cast<char>(t));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(allocator.stats().cached_bytes, static_cast<int64_t>(4 * kMiB));
}

TEST(AdoptCpuTest, TheDeleterRunsOnceWhenTheLastUserGoes) {
  char bytes[16] = "abc";
  int deleted = 0;
  auto storage = AdoptCpu(bytes, sizeof(bytes), [&](void* data) {
    EXPECT_EQ(data, bytes);
    ++deleted;
  });
  EXPECT_TRUE(storage->owns_memory());
  EXPECT_EQ(storage->data(), bytes);
  EXPECT_EQ(storage->num_bytes(), sizeof(bytes));
  auto other = storage;
  storage.reset();
  EXPECT_EQ(deleted, 0);
  other.reset();
  EXPECT_EQ(deleted, 1);
  AdoptCpu(bytes, 1, nullptr);
}

}  // namespace
}  // namespace reprise
