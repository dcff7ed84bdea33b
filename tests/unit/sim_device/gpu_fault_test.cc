// Each fault of a simulated GPU, and what the driver says then.

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/sim_device/gpu_testing.h"

namespace reprise {
namespace {

using absl::StatusCode;
using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;

TEST(GpuFaultTest, NoMemory) {
  ExpectClean([](GpuRig& rig) {
    rig.gpus().RefuseMemory(0, kSecond);
    EXPECT_EQ(rig.gpu().Allocate(0, 64).status().code(),
              StatusCode::kResourceExhausted);
    EXPECT_EQ(rig.gpu().AllocatePinned(64).status().code(),
              StatusCode::kResourceExhausted);
    alignas(4096) static char page[4096];
    EXPECT_EQ(rig.gpu().RegisterHost(page, sizeof(page)).code(),
              StatusCode::kResourceExhausted);
    EXPECT_THAT(rig.struck(),
                ElementsAre(FaultKind::kGpuNoMemory, FaultKind::kGpuNoMemory,
                            FaultKind::kGpuNoMemory));
    // Others have some, and it ends.
    EXPECT_TRUE(rig.gpu(1).Allocate(0, 64).ok());
    rig.Sleep(absl::Seconds(1));
    EXPECT_TRUE(rig.gpu().Allocate(0, 64).ok());
    EXPECT_EQ(rig.struck().size(), 3u);
  });
}

TEST(GpuFaultTest, ACopyThatFailsLate) {
  ExpectClean([](GpuRig& rig) {
    char* const from = rig.Memory(0, 0, 'f');
    char* const to = rig.Memory(0, 0, 't');
    char* const last = rig.Memory(0, 0, 'l');
    const GpuStream stream = rig.Stream();
    const GpuStream dependent = rig.Stream();
    const GpuStream independent = rig.Stream();
    const GpuEvent event = rig.Event();
    std::vector<StatusCode> called;
    rig.gpus().FailNextCopy(0);
    // The calls succeed.
    rig.Copy(to, from, stream);
    EXPECT_TRUE(rig.gpu()
                    .AddCallback(stream,
                                 [&](const absl::Status& status) {
                                   called.push_back(status.code());
                                 })
                    .ok());
    EXPECT_TRUE(rig.gpu().Record(event, stream).ok());
    EXPECT_TRUE(rig.gpu().Wait(dependent, event).ok());
    rig.Copy(last, to, dependent);
    // Whoever waits learns of it, as often as they ask.
    EXPECT_EQ(rig.gpu().Synchronize(dependent).code(), StatusCode::kInternal);
    EXPECT_EQ(rig.gpu().Synchronize(event).code(), StatusCode::kInternal);
    EXPECT_EQ(rig.gpu().IsDone(event).status().code(), StatusCode::kInternal);
    const absl::Status status = rig.gpu().Synchronize(stream);
    EXPECT_EQ(status.message(),
              "gpu: copy 1 of 64 bytes on stream w0/gpu0/1 failed");
    EXPECT_THAT(called, ElementsAre(StatusCode::kInternal));
    rig.Synchronize(independent);
    EXPECT_THAT(rig.struck(), ElementsAre(FaultKind::kGpuCopyFails));
    // Half of it was written, and nothing after it.
    EXPECT_EQ(rig.Peek(0, to, 64), std::string(32, 'f') + std::string(32, 't'));
    EXPECT_EQ(rig.Peek(0, last, 64), std::string(64, 'l'));
    // Once it was reported, the stream goes on.
    rig.Copy(to, from, stream);
    rig.Synchronize(stream);
    EXPECT_EQ(rig.Peek(0, to, 64), std::string(64, 'f'));
  });
}

// What was put on the stream before the error was reported does not run.
TEST(GpuFaultTest, WorkBehindAFailedCopyFailsToo) {
  ExpectClean([](GpuRig& rig) {
    char* const from = rig.Memory(0, 0, 'f');
    char* const to = rig.Memory(0, 0, 't');
    const GpuStream stream = rig.Stream();
    std::vector<StatusCode> called;
    const auto note = [&](const absl::Status& status) {
      called.push_back(status.code());
    };
    rig.gpus().FailNextCopy(0);
    rig.Copy(to, from, stream, 0, 2);
    EXPECT_TRUE(rig.gpu().AddCallback(stream, note).ok());
    rig.Copy(to + 8, from, stream, 0, 8);
    EXPECT_TRUE(rig.gpu().AddCallback(stream, note).ok());
    while (called.size() < 2) rig.Sleep(absl::Microseconds(50));
    EXPECT_THAT(called, Each(StatusCode::kInternal));
    EXPECT_EQ(rig.Peek(0, to, 16), "f" + std::string(15, 't'));
  });
}

TEST(GpuFaultTest, AFailureReachesThePeerThatWaits) {
  ExpectClean([](GpuRig& rig) {
    char* const slot = rig.Memory(0);
    void* const opened = rig.Open(slot);
    char* const to = rig.Memory(1, 0, 't');
    const GpuEvent event = rig.Event(0, 0, /*is_shared=*/true);
    const GpuEvent peers =
        Value(rig.gpu(1).OpenEvent(0, Value(rig.gpu().ExportEvent(event))));
    rig.gpus().FailNextCopy(0);
    rig.Copy(slot, rig.Memory(0, 0, 'f'), GpuStream{});
    EXPECT_TRUE(rig.gpu().Record(event, GpuStream{}).ok());
    EXPECT_TRUE(rig.gpu(1).Wait(GpuStream{}, peers).ok());
    rig.Copy(to, opened, GpuStream{}, 1);
    EXPECT_EQ(rig.gpu(1).Synchronize(GpuStream{}).code(),
              StatusCode::kInternal);
    EXPECT_EQ(rig.Peek(1, to), "t");
  });
}

TEST(GpuFaultTest, StreamsStall) {
  ExpectClean([](GpuRig& rig) {
    char* const memory = rig.Memory(0, 0, 'x', 128);
    char* const peers = rig.Memory(1, 0, 'x', 128);
    rig.gpus().StallStreams(0, kSecond);
    rig.Copy(memory, memory + 64, GpuStream{});
    rig.Copy(peers, peers + 64, GpuStream{}, 1);
    rig.Synchronize(GpuStream{}, 1);
    EXPECT_LT(rig.world().now_ns(), kSecond / 2);
    rig.Synchronize(GpuStream{});
    EXPECT_GE(rig.world().now_ns(), kSecond);
    EXPECT_THAT(rig.struck(), ElementsAre(FaultKind::kGpuStall));
    rig.Copy(memory, memory + 64, GpuStream{});
    rig.Synchronize(GpuStream{});
    EXPECT_LT(rig.world().now_ns(), kSecond + kSecond / 2);
  });
}

TEST(GpuFaultTest, AStreamThatStallsForEver) {
  GpuRig rig;
  EXPECT_EQ(rig.Run([&] {
    rig.gpus().StallStreams(0, Scheduler::kNever);
    EXPECT_TRUE(rig.gpu().Record(rig.Event(), GpuStream{}).ok());
    rig.Synchronize(GpuStream{});
  }),
            Outcome::kDeadlock);
  EXPECT_THAT(rig.world()->DescribeFibers(),
              ElementsAre("w0/main waits for stream w0/gpu0/default"));
}

TEST(GpuFaultTest, ALostDevice) {
  ExpectClean([](GpuRig& rig) {
    char* const from = rig.Memory(0, 0, 'f');
    char* const to = rig.Memory(0, 0, 't');
    char* const other = rig.Memory(0, 1, 'o', 128);
    const GpuStream stream = rig.Stream();
    const GpuEvent event = rig.Event();
    const GpuEvent never = rig.Event();
    std::vector<StatusCode> called;
    rig.gpus().StallStreams(0, kSecond);
    rig.Copy(to, from, stream);
    EXPECT_TRUE(rig.gpu().Record(event, stream).ok());
    EXPECT_TRUE(rig.gpu()
                    .AddCallback(stream,
                                 [&](const absl::Status& status) {
                                   called.push_back(status.code());
                                 })
                    .ok());
    // A thread waits when it happens.
    rig.world()->At(kMillisecond * 10, {0, 0},
                    [&rig] { rig.gpus().LoseDevices(0, /*device=*/0); });
    EXPECT_EQ(rig.gpu().Synchronize(stream).code(), StatusCode::kUnavailable);
    EXPECT_THAT(called, ElementsAre(StatusCode::kUnavailable));
    EXPECT_EQ(std::string(to, 64), std::string(64, 't'));
    const size_t struck = rig.struck().size();

    // Every call for it fails from now on.
    EXPECT_EQ(rig.gpu().Allocate(0, 64).status().code(),
              StatusCode::kUnavailable);
    EXPECT_EQ(rig.gpu().CreateStream(0).status().code(),
              StatusCode::kUnavailable);
    EXPECT_EQ(rig.gpu().CreateEvent(0, false).status().code(),
              StatusCode::kUnavailable);
    EXPECT_EQ(rig.gpu().Copy(to, from, 64, stream).code(),
              StatusCode::kUnavailable);
    EXPECT_EQ(rig.gpu().AddCallback(stream, [](const absl::Status&) {}).code(),
              StatusCode::kUnavailable);
    EXPECT_EQ(rig.gpu().Record(never, stream).code(), StatusCode::kUnavailable);
    EXPECT_EQ(rig.gpu().Wait(stream, event).code(), StatusCode::kUnavailable);
    EXPECT_EQ(rig.gpu().Synchronize(stream).code(), StatusCode::kUnavailable);
    EXPECT_EQ(rig.gpu().Synchronize(event).code(), StatusCode::kUnavailable);
    EXPECT_EQ(rig.gpu().IsDone(event).status().code(),
              StatusCode::kUnavailable);
    EXPECT_EQ(rig.gpu().ExportMemory(0, to).status().code(),
              StatusCode::kUnavailable);
    EXPECT_EQ(rig.struck().size(), struck + 11);
    rig.gpu().Free(0, to);
    rig.gpu().DestroyEvent(event);
    rig.gpu().DestroyStream(stream);

    // The other device works, and so does the peer.
    rig.Copy(other, other + 64, GpuStream{.device = 1});
    rig.Synchronize(GpuStream{.device = 1});
    EXPECT_TRUE(rig.gpu(1).Allocate(0, 64).ok());
  });
}

// A stream that waits, or that stalls for ever, ends with its device.
TEST(GpuFaultTest, ALostDeviceEndsEveryWait) {
  ExpectClean([](GpuRig& rig) {
    const GpuStream stalled = rig.Stream(1);
    const GpuStream waiting = rig.Stream(0);
    const GpuEvent event = rig.Event(1, 0, /*is_shared=*/true);
    const GpuEvent opened =
        Value(rig.gpu(0).OpenEvent(0, Value(rig.gpu(1).ExportEvent(event))));
    rig.gpus().StallStreams(1, Scheduler::kNever);
    EXPECT_TRUE(rig.gpu(1).Record(event, stalled).ok());
    EXPECT_TRUE(rig.gpu(0).Wait(waiting, opened).ok());
    rig.world()->At(kMillisecond * 10, {0, 0},
                    [&rig] { rig.gpus().LoseDevices(0); });
    EXPECT_EQ(rig.gpu(0).Synchronize(waiting).code(), StatusCode::kUnavailable);
    rig.world()->At(kMillisecond * 20, {0, 0},
                    [&rig] { rig.gpus().LoseDevices(1); });
    EXPECT_EQ(rig.gpu(1).Synchronize(stalled).code(), StatusCode::kUnavailable);
  });
}

// Nobody has to wait for what will never happen.
TEST(GpuFaultTest, WhatALostDeviceUsedMayBeFreed) {
  ExpectClean([](GpuRig& rig) {
    char* const pinned = rig.Pinned();
    char* const memory = rig.Memory();
    const GpuStream stream = rig.Stream();
    EXPECT_TRUE(rig.gpu().Copy(memory, pinned, 64, stream).ok());
    rig.gpus().LoseDevices(0);
    rig.gpu().FreePinned(pinned);
    rig.gpu().Free(0, memory);
  });
}

TEST(GpuFaultTest, PeersAreRefused) {
  ExpectClean([](GpuRig& rig) {
    const std::string& own = rig.gpu().properties(0).uuid;
    const std::string& other = rig.gpu().properties(1).uuid;
    const std::string handle =
        Value(rig.gpu(1).ExportMemory(1, rig.Memory(1, 1)));
    rig.gpus().RefusePeers(0, kSecond);
    EXPECT_TRUE(rig.gpu().CanReadPeer(0, own));
    EXPECT_THAT(rig.struck(), IsEmpty());
    EXPECT_FALSE(rig.gpu().CanReadPeer(0, other));
    EXPECT_EQ(rig.gpu().OpenMemory(0, handle).status().code(),
              StatusCode::kUnimplemented);
    EXPECT_THAT(rig.struck(),
                ElementsAre(FaultKind::kGpuNoPeer, FaultKind::kGpuNoPeer));
    EXPECT_TRUE(rig.gpu().OpenMemory(1, handle).ok());
    rig.Sleep(absl::Seconds(1));
    EXPECT_TRUE(rig.gpu().CanReadPeer(0, other));
    EXPECT_TRUE(rig.gpu().OpenMemory(0, handle).ok());
  });
}

TEST(GpuFaultTest, NothingCanBeShared) {
  ExpectClean([](GpuRig& rig) {
    char* const memory = rig.Memory();
    const GpuEvent event = rig.Event(0, 0, /*is_shared=*/true);
    const std::string handle = Value(rig.gpu().ExportMemory(0, memory));
    const std::string event_handle = Value(rig.gpu().ExportEvent(event));
    for (int rank : {0, 1}) rig.gpus().RefuseSharing(rank, kSecond);
    EXPECT_EQ(rig.gpu().ExportMemory(0, memory).status().code(),
              StatusCode::kUnimplemented);
    EXPECT_EQ(rig.gpu().ExportEvent(event).status().code(),
              StatusCode::kUnimplemented);
    EXPECT_EQ(rig.gpu(1).OpenMemory(0, handle).status().code(),
              StatusCode::kUnimplemented);
    EXPECT_EQ(rig.gpu(1).OpenEvent(0, event_handle).status().code(),
              StatusCode::kUnimplemented);
    EXPECT_EQ(rig.struck(), std::vector<FaultKind>(4, FaultKind::kGpuNoIpc));
    rig.Sleep(absl::Seconds(1));
    EXPECT_TRUE(rig.gpu(1).OpenMemory(0, handle).ok());
  });
}

}  // namespace
}  // namespace reprise
