// Memory and events that processes share.

#include <string>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "tests/unit/sim_device/gpu_testing.h"

namespace reprise {
namespace {

TEST(GpuSharingTest, APeerCopiesOutOfAnAllocation) {
  ExpectClean([](GpuRig& rig) {
    char* const memory = rig.Memory(0, 0, 'm', 128);
    const std::string handle = Value(rig.gpu().ExportMemory(0, memory));
    EXPECT_EQ(handle.size(), 64u);
    EXPECT_EQ(Value(rig.gpu().ExportMemory(0, memory)), handle);
    auto* const opened =
        static_cast<char*>(Value(rig.gpu(1).OpenMemory(1, handle)));
    char* const to = rig.Memory(1, 1, 't');
    rig.Copy(to, opened + 64, rig.Stream(1, 1), 1);
    rig.Synchronize(GpuStream{1, 1}, 1);
    EXPECT_EQ(rig.Peek(1, to), "m");

    const GpuAllocation found = Value(rig.gpu(1).FindAllocation(opened + 127));
    EXPECT_EQ(found.device, 1);
    EXPECT_EQ(found.base, opened);
    EXPECT_EQ(found.num_bytes, 128u);
    EXPECT_FALSE(found.may_be_exported);
    EXPECT_FALSE(rig.gpu(1).ExportMemory(1, opened).ok());

    // It is open as often as it was opened.
    EXPECT_EQ(Value(rig.gpu(1).OpenMemory(1, handle)), opened);
    rig.gpu(1).CloseMemory(1, opened);
    EXPECT_TRUE(rig.gpu(1).FindAllocation(opened).ok());
    rig.gpu(1).CloseMemory(1, opened);
    EXPECT_EQ(rig.gpu(1).FindAllocation(opened).status().code(),
              absl::StatusCode::kNotFound);
    rig.gpu().Free(0, memory);
  });
}

TEST(GpuSharingTest, EachDeviceOpensAndClosesForItself) {
  ExpectClean([](GpuRig& rig) {
    char* const memory = rig.Memory();
    const std::string handle = Value(rig.gpu().ExportMemory(0, memory));
    void* const first = Value(rig.gpu(1).OpenMemory(0, handle));
    void* const second = Value(rig.gpu(1).OpenMemory(1, handle));
    rig.gpu(1).CloseMemory(0, first);
    EXPECT_TRUE(rig.gpu(1).FindAllocation(second).ok());
    rig.gpu(1).CloseMemory(1, second);
    EXPECT_EQ(rig.gpu(1).FindAllocation(second).status().code(),
              absl::StatusCode::kNotFound);
    rig.gpu().Free(0, memory);
  });
}

TEST(GpuSharingTest, WhatIsNoHandleHere) {
  ExpectClean([](GpuRig& rig) {
    const auto elsewhere = rig.gpus().Connect(rig.node(2), /*host=*/1);
    char* const memory = rig.Memory();
    const std::string handle = Value(rig.gpu().ExportMemory(0, memory));
    const GpuEvent event = rig.Event(0, 0, /*is_shared=*/true);
    const std::string event_handle = Value(rig.gpu().ExportEvent(event));
    const auto opens = [](GpuDriver& gpu, const std::string& text) {
      return gpu.OpenMemory(0, text).status().code();
    };
    const auto opens_event = [](GpuDriver& gpu, const std::string& text) {
      return gpu.OpenEvent(0, text).status().code();
    };
    std::string garbage = handle;
    garbage[9] = static_cast<char>(garbage[9] + 1);
    for (const std::string& text :
         {garbage, std::string(), std::string(64, '\0'), event_handle}) {
      EXPECT_EQ(opens(rig.gpu(1), text), absl::StatusCode::kInvalidArgument);
    }
    for (const std::string& text : {garbage, std::string(), handle}) {
      EXPECT_EQ(opens_event(rig.gpu(1), text),
                absl::StatusCode::kInvalidArgument);
    }
    // Neither to the process that made it, nor on another host.
    EXPECT_EQ(opens(rig.gpu(0), handle), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(opens(*elsewhere, handle), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(opens_event(rig.gpu(0), event_handle),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(opens_event(*elsewhere, event_handle),
              absl::StatusCode::kInvalidArgument);
  });
}

TEST(GpuSharingTest, WhatCannotBeExported) {
  ExpectClean([](GpuRig& rig) {
    char* const memory = rig.Memory();
    EXPECT_FALSE(rig.gpu().ExportMemory(0, memory + 8).ok());
    EXPECT_FALSE(rig.gpu().ExportMemory(0, rig.Pinned()).ok());
    EXPECT_FALSE(rig.gpu().ExportEvent(rig.Event()).ok());
  });
  GpuRig rig(With(Policy::kRandom), {.may_be_exported = false});
  EXPECT_EQ(rig.Run([&] {
    char* const memory = rig.Memory();
    EXPECT_FALSE(Value(rig.gpu().FindAllocation(memory)).may_be_exported);
    EXPECT_EQ(rig.gpu().ExportMemory(0, memory).status().code(),
              absl::StatusCode::kUnimplemented);
  }),
            Outcome::kFinished);
}

TEST(GpuSharingTest, ADeviceThatThePeerDoesNotSee) {
  ExpectClean([](GpuRig& rig) {
    const auto blind = rig.gpus().Connect(rig.node(2), 0, {1});
    const std::string handle = Value(rig.gpu().ExportMemory(0, rig.Memory()));
    EXPECT_EQ(blind->OpenMemory(0, handle).status().code(),
              absl::StatusCode::kUnimplemented);
  });
}

TEST(GpuSharingTest, AnEventOrdersTwoProcesses) {
  ExpectClean([](GpuRig& rig) {
    char* const memory = rig.Memory(0, 0, 'm');
    char* const from = rig.Memory(0, 0, 'f');
    char* const to = rig.Memory(1, 0, 't');
    void* const opened = rig.Open(memory);
    const GpuEvent event = rig.Event(0, 0, /*is_shared=*/true);
    const GpuEvent peers =
        Value(rig.gpu(1).OpenEvent(0, Value(rig.gpu().ExportEvent(event))));
    const GpuStream sender = rig.Stream(0);
    rig.Copy(memory, from, sender);
    EXPECT_TRUE(rig.gpu().Record(event, sender).ok());
    EXPECT_TRUE(rig.gpu(1).Wait(GpuStream{}, peers).ok());
    rig.Copy(to, opened, GpuStream{}, 1);
    // A record belongs on a stream of the event's device.
    EXPECT_FALSE(rig.gpu(1).Record(peers, GpuStream{.device = 1}).ok());
    EXPECT_TRUE(rig.gpu(1).Record(peers, GpuStream{}).ok());
    // The other way: the sender's event has the receiver's record.
    EXPECT_TRUE(rig.gpu().Synchronize(event).ok());
    EXPECT_EQ(rig.Peek(1, to), "f");
    rig.gpu(1).DestroyEvent(peers);
    EXPECT_TRUE(Value(rig.gpu().IsDone(event)));
    rig.gpu().DestroyEvent(event);
  });
}

}  // namespace
}  // namespace reprise
