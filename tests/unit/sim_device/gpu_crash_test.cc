// A process that dies with work on its streams and with memory that a peer has
// open.

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/unit/sim_device/gpu_testing.h"

namespace reprise {
namespace {

using absl::StatusCode;

// w1 dies in 10 ms; the work of its streams is stalled until then.
void KillPeerSoon(GpuRig& rig) {
  rig.gpus().StallStreams(1, Scheduler::kNever);
  rig.world()->At(rig.world().now_ns() + 10 * kMillisecond, {0, 0},
                  [&rig] { rig.world()->Crash(rig.node(1)); });
}

TEST(GpuCrashTest, ItsWorkVanishes) {
  ExpectClean([](GpuRig& rig) {
    char* const memory = rig.Memory(0, 0, 'm');
    void* const opened = rig.Open(memory);
    char* const theirs = rig.Memory(1, 0, 't');
    int called = 0;
    KillPeerSoon(rig);
    rig.Copy(opened, theirs, GpuStream{}, 1);
    EXPECT_TRUE(rig.gpu(1)
                    .AddCallback(GpuStream{},
                                 [&called](const absl::Status&) { ++called; })
                    .ok());
    rig.Sleep(absl::Seconds(1));
    EXPECT_EQ(called, 0);
    // Nothing has to be waited for any more.
    EXPECT_EQ(rig.Peek(0, memory), "m");
    rig.Copy(memory, rig.Memory(0, 0, 'n'), GpuStream{});
    rig.gpu().Free(0, memory);
  });
}

TEST(GpuCrashTest, WhoeverWaitsForItsEventIsToldSo) {
  ExpectClean([](GpuRig& rig) {
    const GpuEvent event = rig.Event(1, 0, /*is_shared=*/true);
    const GpuEvent opened =
        Value(rig.gpu(0).OpenEvent(0, Value(rig.gpu(1).ExportEvent(event))));
    const GpuStream stream = rig.Stream();
    char* const to = rig.Memory(0, 0, 't', 128);
    KillPeerSoon(rig);
    EXPECT_TRUE(rig.gpu(1).Record(event, GpuStream{}).ok());
    EXPECT_TRUE(rig.gpu(0).Wait(stream, opened).ok());
    rig.Copy(to, to + 64, stream);
    EXPECT_EQ(rig.gpu(0).Synchronize(opened).code(), StatusCode::kInternal);
    EXPECT_EQ(rig.gpu(0).Synchronize(stream).code(), StatusCode::kInternal);
    // The stream works again.
    rig.Copy(to, to + 64, stream);
    rig.Synchronize(stream);
  });
}

TEST(GpuCrashTest, ItsExportedMemoryStays) {
  ExpectClean([](GpuRig& rig) {
    rig.gpus().KeepMemoryOfCrashed(true);
    char* const slot = rig.Memory(1, 0, 's');
    const std::string handle = Value(rig.gpu(1).ExportMemory(0, slot));
    void* const opened = Value(rig.gpu(0).OpenMemory(0, handle));
    char* const to = rig.Memory(0, 0, 't');
    KillPeerSoon(rig);
    rig.Sleep(absl::Seconds(1));
    rig.Copy(to, opened, GpuStream{});
    rig.Synchronize(GpuStream{});
    EXPECT_EQ(rig.Peek(0, to), "s");
    // Nobody can open it any more, and it is free when it is closed.
    EXPECT_EQ(rig.gpu(0).OpenMemory(0, handle).status().code(),
              StatusCode::kInternal);
    const size_t all = rig.gpu().properties(0).memory_bytes;
    EXPECT_FALSE(rig.gpu().Allocate(0, all - 64).ok());
    rig.gpu(0).CloseMemory(0, opened);
    rig.gpu(0).Free(0, to);
    EXPECT_EQ(rig.gpus().num_allocations(), 0);
    rig.gpu().Free(0, Value(rig.gpu().Allocate(0, 64)));
  });
}

TEST(GpuCrashTest, ItsExportedMemoryGoes) {
  ExpectClean([](GpuRig& rig) {
    rig.gpus().KeepMemoryOfCrashed(false);
    void* const opened = Value(rig.gpu(0).OpenMemory(
        0, Value(rig.gpu(1).ExportMemory(0, rig.Memory(1, 0, 's')))));
    char* const to = rig.Memory(0, 0, 't');
    KillPeerSoon(rig);
    // A copy that is under way then fails, and so does every later one. This is
    // no mistake of whoever has the memory open.
    rig.gpus().StallStreams(0, kSecond);
    rig.Copy(to, opened, GpuStream{});
    EXPECT_EQ(rig.gpu().Synchronize(GpuStream{}).code(), StatusCode::kInternal);
    EXPECT_EQ(rig.gpu().Copy(to, opened, 64, GpuStream{}).code(),
              StatusCode::kInternal);
    EXPECT_EQ(rig.Peek(0, to), "t");
    rig.gpu(0).CloseMemory(0, opened);
  });
}

TEST(GpuCrashTest, BothAreDrawn) {
  int stayed = 0;
  int went = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    GpuRig rig(With(Policy::kRandom, seed));
    rig.Run([&] {
      void* const opened = Value(rig.gpu(0).OpenMemory(
          0, Value(rig.gpu(1).ExportMemory(0, rig.Memory(1)))));
      KillPeerSoon(rig);
      rig.Sleep(absl::Seconds(1));
      ++(rig.gpus().Peek(rig.node(0), opened, 1).ok() ? stayed : went);
    });
    EXPECT_EQ(rig.world()->failed_rule(), "");
  }
  EXPECT_GT(stayed, 5);
  EXPECT_GT(went, 5);
}

TEST(GpuCrashTest, ANewIncarnationBeginsAnew) {
  const auto body = [](GpuRig& rig) {
    rig.Memory(1, 0, 'x', 1 << 10);
    rig.Pinned(1);
    rig.gpus().LoseDevices(1);
    KillPeerSoon(rig);
    rig.Sleep(absl::Seconds(1));
    EXPECT_EQ(rig.gpus().num_allocations(), 0);
    rig.gpus().StallStreams(1, 0);
    const auto again = rig.gpus().Connect(rig.world().Restart(1));
    EXPECT_EQ(again->properties(0).uuid, rig.gpu().properties(0).uuid);
    void* const all =
        Value(again->Allocate(0, again->properties(0).memory_bytes));
    EXPECT_TRUE(again->Copy(all, static_cast<char*>(all) + 64, 64, {}).ok());
    EXPECT_TRUE(again->Synchronize(GpuStream{}).ok());
    again->Free(0, all);
  };
  ExpectClean(body, 10, {.memory_bytes = 1 << 20});
}

// The node dies at any event of its own work, on its own thread or on none.
TEST(GpuCrashTest, AtAnyOfItsEvents) {
  for (const EventKind kind : {EventKind::kGpuPut, EventKind::kGpuDone}) {
    for (int number = 1; number <= 6; ++number) {
      GpuRig rig(With(Policy::kRandom, static_cast<uint64_t>(number)));
      int left = number;
      rig.world()->trace().AddListener([&](const Event& event) {
        if (event.node != 1 || event.kind != kind || --left != 0) return;
        rig.world()->Crash(rig.node(1));
      });
      rig.world().Start(1, "victim", [&rig] {
        char* const memory = rig.Memory(1, 0, 'x', 128);
        const GpuStream stream = rig.Stream(1);
        for (int i = 0; i < 2; ++i) {
          rig.Copy(memory, memory + 64, stream, 1);
          EXPECT_TRUE(
              rig.gpu(1).AddCallback(stream, [](const absl::Status&) {}).ok());
          rig.Order(stream, GpuStream{}, 1);
          rig.Order(GpuStream{}, stream, 1);
        }
        rig.Synchronize(stream, 1);
      });
      EXPECT_EQ(rig.Run([] {}), Outcome::kFinished);
      EXPECT_LE(left, 0) << number;
      EXPECT_FALSE(rig.node(1).alive);
    }
  }
}

}  // namespace
}  // namespace reprise
