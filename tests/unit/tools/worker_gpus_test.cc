// A driver's GPUs under other numbers.

#include "tools/processes/worker_gpus.h"

#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/transport/cuda/fake_gpus.h"
#include "tools/processes/selected_gpus.h"

namespace reprise {
namespace {

using testing::HasSubstr;

constexpr size_t kBytes = 64;

class WorkerGpusTest : public testing::Test {
 protected:
  FakeGpus machine_{3};
  FakeDriver driver_{machine_};
};

TEST_F(WorkerGpusTest, DevicesHaveNewNumbers) {
  SelectedGpus gpus(driver_, {2, 0});
  EXPECT_EQ(gpus.device_count(), 2);
  EXPECT_EQ(gpus.properties(0).uuid, driver_.properties(2).uuid);
  EXPECT_EQ(gpus.properties(1).uuid, driver_.properties(0).uuid);
  EXPECT_EQ(gpus.properties(2).uuid, "");
  EXPECT_EQ(gpus.properties(-1).uuid, "");
  // A GPU of another worker's.
  EXPECT_TRUE(gpus.CanReadPeer(0, driver_.properties(1).uuid));
  EXPECT_FALSE(gpus.CanReadPeer(0, "no such GPU"));
}

TEST_F(WorkerGpusTest, MemoryStreamsAndEventsKeepThem) {
  SelectedGpus gpus(driver_, {2, 0});
  const auto memory = gpus.Allocate(0, kBytes);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(driver_.FindAllocation(*memory)->device, 2);
  EXPECT_EQ(gpus.FindAllocation(*memory)->device, 0);
  EXPECT_EQ(gpus.FindAllocation(*memory)->num_bytes, kBytes);

  const auto stream = gpus.CreateStream(0);
  ASSERT_TRUE(stream.ok()) << stream.status();
  EXPECT_EQ(stream->device, 0);
  const auto other = gpus.CreateStream(1);
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(other->device, 1);
  const auto event = gpus.CreateEvent(0, /*is_shared=*/false);
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_EQ(event->device, 0);

  const std::string bytes(kBytes, 'x');
  std::string back(kBytes, '\0');
  EXPECT_TRUE(gpus.Copy(*memory, bytes.data(), kBytes, *stream).ok());
  EXPECT_TRUE(gpus.Record(*event, *stream).ok());
  EXPECT_TRUE(gpus.Wait(*other, *event).ok());
  EXPECT_TRUE(gpus.Copy(back.data(), *memory, kBytes, *other).ok());
  EXPECT_TRUE(gpus.Synchronize(*other).ok());
  EXPECT_EQ(back, bytes);
  EXPECT_TRUE(*gpus.IsDone(*event));

  gpus.DestroyEvent(*event);
  gpus.DestroyStream(*stream);
  gpus.DestroyStream(*other);
  gpus.Free(0, *memory);
  EXPECT_EQ(driver_.Held(), "");
}

TEST_F(WorkerGpusTest, AGpuCanStandForTwo) {
  SelectedGpus gpus(driver_, {1, 1});
  EXPECT_EQ(gpus.device_count(), 2);
  const auto first = gpus.CreateStream(0);
  const auto second = gpus.CreateStream(1);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->device, 0);
  EXPECT_EQ(second->device, 1);
  EXPECT_NE(first->handle, second->handle);
  const auto memory = gpus.Allocate(1, kBytes);
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(gpus.FindAllocation(*memory)->device, 0);
  gpus.Free(1, *memory);
  gpus.DestroyStream(*first);
  gpus.DestroyStream(*second);
  EXPECT_EQ(driver_.Held(), "");
}

TEST_F(WorkerGpusTest, MemoryOfAGpuThatIsNotAmongThem) {
  SelectedGpus gpus(driver_, {0});
  const auto memory = driver_.Allocate(2, kBytes);
  ASSERT_TRUE(memory.ok()) << memory.status();
  const auto found = gpus.FindAllocation(*memory);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->device, -1);
  EXPECT_EQ(found->num_bytes, kBytes);
  EXPECT_EQ(gpus.FindAllocation(&memory).status().code(),
            absl::StatusCode::kNotFound);
  driver_.Free(2, *memory);
}

TEST_F(WorkerGpusTest, ProcessesWithDifferentGpusShareMemoryAndEvents) {
  SelectedGpus ours(driver_, {0});
  FakeDriver peer_driver(machine_);
  SelectedGpus theirs(peer_driver, {2});
  const auto memory = ours.Allocate(0, kBytes);
  const auto event = ours.CreateEvent(0, /*is_shared=*/true);
  ASSERT_TRUE(memory.ok() && event.ok());
  const auto memory_handle = ours.ExportMemory(0, *memory);
  const auto event_handle = ours.ExportEvent(*event);
  ASSERT_TRUE(memory_handle.ok()) << memory_handle.status();
  ASSERT_TRUE(event_handle.ok()) << event_handle.status();
  const auto opened_memory = theirs.OpenMemory(0, *memory_handle);
  const auto opened_event = theirs.OpenEvent(0, *event_handle);
  ASSERT_TRUE(opened_memory.ok()) << opened_memory.status();
  ASSERT_TRUE(opened_event.ok()) << opened_event.status();
  EXPECT_EQ(opened_event->device, 0);
  EXPECT_EQ(theirs.FindAllocation(*opened_memory)->num_bytes, kBytes);
  theirs.DestroyEvent(*opened_event);
  theirs.CloseMemory(0, *opened_memory);
  ours.DestroyEvent(*event);
  ours.Free(0, *memory);
  EXPECT_EQ(driver_.Held(), "");
  EXPECT_EQ(peer_driver.Held(), "");
}

TEST_F(WorkerGpusTest, TheScenarioSeesThemAsDevices) {
  const auto gpus = WorkerGpus::Open(driver_, {2, 2});
  ASSERT_TRUE(gpus.ok()) << gpus.status();
  Devices& devices = (*gpus)->devices();
  EXPECT_EQ(devices.gpu_count(), 2);
  EXPECT_TRUE(devices.Check(GpuDevice(1)).ok());
  EXPECT_FALSE(devices.Check(GpuDevice(2)).ok());
  const auto storage = devices.Allocate(GpuDevice(1), kBytes, StreamSet());
  ASSERT_TRUE(storage.ok()) << storage.status();
  EXPECT_EQ((*storage)->device(), GpuDevice(1));
  EXPECT_EQ(driver_.FindAllocation((*storage)->data())->device, 2);
}

TEST_F(WorkerGpusTest, AGpuThatCannotBeUsedIsNamed) {
  driver_.FailCall(1);
  const absl::Status failed = WorkerGpus::Open(driver_, {1}).status();
  EXPECT_EQ(failed.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(failed.message()),
              HasSubstr("cuda:1 cannot be used: injected failure"));
  for (const int gpu : {-1, 3}) {
    const absl::Status missing = WorkerGpus::Open(driver_, {0, gpu}).status();
    EXPECT_EQ(missing.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(missing.message()), HasSubstr("sees 3 GPUs"));
  }
  EXPECT_EQ(driver_.Held(), "");
}

}  // namespace
}  // namespace reprise
