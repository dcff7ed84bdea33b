#include "agent/device/gpu_memory.h"

#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "agent/device/gpu_streams.h"
#include "agent/runtime/runtime.h"
#include "gtest/gtest.h"
#include "tests/unit/device/fake_gpus.h"

namespace reprise {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

class GpuMemoryTest : public testing::Test {
 protected:
  ~GpuMemoryTest() override {
    memory.reset();
    streams.reset();
    EXPECT_EQ(gpus.live_allocations(), 0u);
    EXPECT_EQ(gpus.live_events, 0);
    EXPECT_EQ(gpus.live_streams, 0);
  }

  void Limit(size_t max_device, size_t max_pinned) {
    memory.emplace(RealRuntime(), streams,
                   GpuMemory::Options{max_device, max_pinned});
  }
  std::shared_ptr<Storage> Allocate(GpuStream stream, size_t num_bytes) {
    auto storage = memory->Allocate(stream, num_bytes);
    EXPECT_TRUE(storage.ok()) << storage.status();
    return storage.ok() ? *std::move(storage) : nullptr;
  }
  std::shared_ptr<Storage> AllocatePinned(size_t num_bytes) {
    auto storage = memory->AllocatePinned(num_bytes);
    EXPECT_TRUE(storage.ok()) << storage.status();
    return storage.ok() ? *std::move(storage) : nullptr;
  }

  FakeGpus gpus{2};
  std::shared_ptr<GpuStreams> streams =
      std::make_shared<GpuStreams>(RealRuntime(), gpus);
  std::optional<GpuMemory> memory{std::in_place, RealRuntime(), streams,
                                  GpuMemory::Options{}};
  // Names of streams that the fake knows without having made them.
  const GpuStream a{0, 1};
  const GpuStream b{0, 2};
  const GpuStream other_device{1, 3};
};

TEST_F(GpuMemoryTest, IsOnItsDeviceAndIsUsedAgain) {
  std::shared_ptr<Storage> storage = Allocate(a, kMiB);
  EXPECT_EQ(storage->device(), GpuDevice(0));
  EXPECT_EQ(storage->num_bytes(), kMiB);
  EXPECT_TRUE(storage->owns_memory());
  EXPECT_EQ(gpus.FindAllocation(storage->data())->device, 0);
  void* const address = storage->data();
  EXPECT_EQ(memory->stats(0).used_bytes, static_cast<int64_t>(kMiB));
  storage.reset();
  EXPECT_EQ(memory->stats(0).used_bytes, 0);
  EXPECT_EQ(memory->stats(0).cached_bytes, static_cast<int64_t>(kMiB));

  // The blocks of another device are others.
  EXPECT_EQ(Allocate(other_device, kMiB)->device(), GpuDevice(1));
  EXPECT_EQ(Allocate(b, kMiB)->data(), address);
  EXPECT_EQ(memory->stats(0).hits, 1);
  EXPECT_EQ(memory->stats(0).misses, 1);
  EXPECT_TRUE(gpus.waits.empty());
}

TEST_F(GpuMemoryTest, OddRequests) {
  std::shared_ptr<Storage> empty = Allocate(a, 0);
  EXPECT_EQ(empty->data(), nullptr);
  EXPECT_EQ(gpus.live_allocations(), 0u);
  EXPECT_NE(Allocate(a, 1)->data(), nullptr);
  EXPECT_EQ(memory->Allocate(a, ~size_t{0}).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(memory->Allocate(GpuStream{2, 0}, 1).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(memory->Allocate(GpuStream{-1, 0}, 1).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(memory->stats(7).misses, 0);
}

TEST_F(GpuMemoryTest, WhatAStreamStillUsesIsNotHandedOut) {
  gpus.Hold(b);
  std::shared_ptr<Storage> storage = Allocate(a, kMiB);
  void* const address = storage->data();
  storage->RecordUse(b);
  storage.reset();
  // Neither to others nor to the stream that it was made for.
  for (const GpuStream& stream : {a, GpuStream{0, 4}}) {
    std::shared_ptr<Storage> fresh = Allocate(stream, kMiB);
    EXPECT_NE(fresh->data(), address);
    gpus.Hold(stream);
  }
  // `b` itself comes to its new work after the old.
  std::shared_ptr<Storage> again = Allocate(b, kMiB);
  EXPECT_EQ(again->data(), address);
  again.reset();
  gpus.Release(b);
  EXPECT_EQ(Allocate(GpuStream{0, 5}, kMiB)->data(), address);
  EXPECT_TRUE(gpus.waits.empty());
  EXPECT_EQ(gpus.num_blocking_waits, 0);
  EXPECT_EQ(memory->stats(0).misses, 3);
  gpus.Release(a);
}

TEST_F(GpuMemoryTest, TheStreamItWasMadeForUsesIt) {
  gpus.Hold(a);
  void* const address = Allocate(a, kMiB)->data();
  EXPECT_NE(Allocate(b, kMiB)->data(), address);
}

TEST_F(GpuMemoryTest, AStalledBlockDoesNotHideOthers) {
  const GpuStream stalled{0, 9};
  gpus.Hold(stalled);
  std::shared_ptr<Storage> first = Allocate(stalled, kMiB);
  std::shared_ptr<Storage> second = Allocate(a, kMiB);
  void* const address = second->data();
  first.reset();
  second.reset();
  EXPECT_EQ(Allocate(b, kMiB)->data(), address);
  EXPECT_EQ(memory->stats(0).hits, 1);
}

TEST_F(GpuMemoryTest, WithoutMemoryTheNextUserWaitsForTheLast) {
  gpus.Hold(a);
  gpus.Hold(b);
  std::shared_ptr<Storage> storage = Allocate(a, kMiB);
  void* const address = storage->data();
  storage->RecordUse(b);
  storage.reset();
  gpus.allocate_error = absl::ResourceExhaustedError("CUDA_ERROR_...");
  const GpuStream later{0, 3};
  std::shared_ptr<Storage> next = Allocate(later, kMiB);
  ASSERT_NE(next, nullptr);
  EXPECT_EQ(next->data(), address);
  ASSERT_EQ(gpus.waits.size(), 2u);
  EXPECT_EQ(gpus.waits[0], std::make_pair(later, a));
  EXPECT_EQ(gpus.waits[1], std::make_pair(later, b));
  EXPECT_EQ(gpus.num_blocking_waits, 0);

  // Nothing that fits is left.
  EXPECT_EQ(memory->Allocate(later, kMiB).status(), gpus.allocate_error);
  gpus.allocate_error = absl::OkStatus();
}

TEST_F(GpuMemoryTest, WithoutMemoryWhatIsKeptIsFreed) {
  std::shared_ptr<Storage> storage = Allocate(a, kMiB);
  storage.reset();
  gpus.allocate_error = absl::ResourceExhaustedError("full");
  EXPECT_FALSE(memory->Allocate(a, 16 * kMiB).ok());
  EXPECT_EQ(gpus.live_allocations(), 0u);
  gpus.allocate_error = absl::UnavailableError("lost");
  EXPECT_EQ(memory->Allocate(a, kMiB).status(), gpus.allocate_error);
  gpus.allocate_error = absl::OkStatus();
}

TEST_F(GpuMemoryTest, KeepsTheLatestUpToItsBound) {
  Limit(2 * kMiB, 0);
  std::shared_ptr<Storage> one = Allocate(a, kMiB);
  std::shared_ptr<Storage> two = Allocate(a, kMiB);
  std::shared_ptr<Storage> three = Allocate(a, kMiB);
  std::shared_ptr<Storage> huge = Allocate(a, 4 * kMiB);
  void* const second = two->data();
  for (auto* storage : {&one, &two, &three, &huge}) storage->reset();
  EXPECT_EQ(memory->stats(0).cached_bytes, static_cast<int64_t>(2 * kMiB));
  EXPECT_EQ(gpus.live_allocations(), 2u);
  EXPECT_EQ(Allocate(a, kMiB)->data(), second);
  memory->Trim();
  EXPECT_EQ(gpus.live_allocations(), 0u);
  EXPECT_EQ(memory->stats(0).cached_bytes, 0);
}

TEST_F(GpuMemoryTest, PinnedMemoryIsOfTheHostAndWaitsForItsStreams) {
  std::shared_ptr<Storage> storage = AllocatePinned(kMiB);
  EXPECT_EQ(storage->device(), CpuDevice());
  std::memset(storage->data(), 1, kMiB);
  gpus.Hold(a);
  storage->RecordUse(a);
  void* const address = storage->data();
  EXPECT_EQ(memory->pinned_stats().used_bytes, static_cast<int64_t>(kMiB));
  storage.reset();
  std::shared_ptr<Storage> other = AllocatePinned(kMiB);
  EXPECT_NE(other->data(), address);
  gpus.Release(a);
  EXPECT_EQ(AllocatePinned(kMiB)->data(), address);
  EXPECT_EQ(memory->pinned_stats().hits, 1);
  EXPECT_EQ(memory->stats(0).misses, 0);
}

TEST_F(GpuMemoryTest, PinnedMemoryIsFreedAfterItsUse) {
  Limit(0, 0);
  gpus.Hold(a);
  std::shared_ptr<Storage> storage = AllocatePinned(kMiB);
  storage->RecordUse(a);
  storage.reset();
  EXPECT_EQ(gpus.num_blocking_waits, 1);
  EXPECT_EQ(gpus.live_allocations(), 0u);
}

TEST_F(GpuMemoryTest, AStreamThatTakesNoEventIsWaitedFor) {
  gpus.Hold(a);
  std::shared_ptr<Storage> storage = Allocate(a, kMiB);
  gpus.record_error = absl::ResourceExhaustedError("no event");
  storage.reset();
  EXPECT_EQ(gpus.synchronized, std::vector<GpuStream>{a});
  gpus.record_error = absl::OkStatus();
}

TEST_F(GpuMemoryTest, AdoptedMemoryIsGivenBackOnceItsStreamsAreDone) {
  char bytes[16];
  int deletions = 0;
  const auto adopt = [&] {
    return memory->Adopt(1, bytes, sizeof(bytes), [&](void* data) {
      EXPECT_EQ(data, bytes);
      ++deletions;
    });
  };
  std::shared_ptr<Storage> storage = adopt();
  EXPECT_EQ(storage->device(), GpuDevice(1));
  EXPECT_EQ(storage->data(), bytes);
  EXPECT_EQ(storage->num_bytes(), sizeof(bytes));
  storage.reset();
  EXPECT_EQ(deletions, 1);

  storage = adopt();
  gpus.Hold(a);
  gpus.Hold(other_device);
  storage->RecordUse(a);
  storage->RecordUse(a);
  storage->RecordUse(other_device);
  storage.reset();
  EXPECT_EQ(deletions, 1);
  gpus.Release(a);
  memory->Poll();
  EXPECT_EQ(deletions, 1);
  gpus.Release(other_device);
  memory->Poll();
  EXPECT_EQ(deletions, 2);
  memory->Poll();
  EXPECT_EQ(deletions, 2);

  memory->Adopt(1, bytes, sizeof(bytes), nullptr).reset();
}

TEST_F(GpuMemoryTest, TheEndWaitsForAdoptedMemory) {
  char byte;
  int deletions = 0;
  std::shared_ptr<Storage> storage =
      memory->Adopt(0, &byte, 1, [&](void*) { ++deletions; });
  gpus.Hold(a);
  storage->RecordUse(a);
  storage.reset();
  memory.reset();
  EXPECT_EQ(deletions, 1);
  EXPECT_EQ(gpus.num_blocking_waits, 1);
}

TEST_F(GpuMemoryTest, StoragesMayOutliveIt) {
  std::shared_ptr<Storage> storage = Allocate(a, kMiB);
  memory.reset();
  streams.reset();
  std::memset(storage->data(), 1, kMiB);
  storage.reset();
  EXPECT_EQ(gpus.live_allocations(), 0u);
}

}  // namespace
}  // namespace reprise
