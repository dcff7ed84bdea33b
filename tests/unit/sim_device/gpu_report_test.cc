// What is not ordered on simulated GPUs, once wrong and once right.

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/unit/sim_device/gpu_testing.h"

namespace reprise {
namespace {

TEST(GpuReportTest, AReadThatDoesNotWaitForTheWrite) {
  for (const bool waits : {false, true}) {
    const auto body = [waits](GpuRig& rig) {
      char* const a = rig.Memory();
      char* const b = rig.Memory();
      char* const c = rig.Memory();
      const GpuStream writer = rig.Stream();
      const GpuStream reader = rig.Stream();
      rig.Copy(b, a, writer);
      if (waits) rig.Order(writer, reader);
      rig.Copy(c, b + 16, reader, 0, 8);
      rig.Synchronize(reader);
    };
    if (waits) {
      ExpectClean(body);
    } else {
      ExpectReport(body, "gpu-race",
                   {"copy 1 of 8 bytes on stream w0/gpu0/2 reads byte 16 of "
                    "memory 2 of w0/gpu0, which copy 1 of 64 bytes on stream "
                    "w0/gpu0/1 writes, and nothing orders the two. Missing: "
                    "stream w0/gpu0/2 must wait for an event that is recorded "
                    "on stream w0/gpu0/1 after that copy"});
    }
  }
}

// The report comes from the order that is missing, not from the bytes.
TEST(GpuReportTest, AMissingWaitIsFoundWhereTheBytesAreRight) {
  ExpectReport(
      [](GpuRig& rig) {
        char* const a = rig.Memory(0, 0, 'a');
        char* const b = rig.Memory(0, 0, 'b');
        char* const c = rig.Memory(0, 0, 'c');
        const GpuStream writer = rig.Stream();
        const GpuStream reader = rig.Stream();
        rig.Copy(b, a, writer);
        rig.Sleep(absl::Milliseconds(20));
        EXPECT_EQ(std::string(b, 64), std::string(64, 'a'));
        rig.Copy(c, b, reader);
        EXPECT_EQ(rig.world()->failed_rule(), "gpu-race");
      },
      "gpu-race", {"must wait for"});
}

TEST(GpuReportTest, AWriteThatDoesNotWaitForTheRead) {
  for (const bool waits : {false, true}) {
    const auto body = [waits](GpuRig& rig) {
      char* const a = rig.Memory();
      char* const b = rig.Memory();
      char* const c = rig.Memory(0, 1);
      const GpuStream reader = rig.Stream();
      const GpuStream writer = rig.Stream(0, 1);
      rig.Copy(b, a, reader);
      if (waits) rig.Order(reader, writer);
      rig.Copy(a, c, writer);
      rig.Synchronize(writer);
    };
    if (waits) {
      ExpectClean(body);
    } else {
      ExpectReport(body, "gpu-race",
                   {"copy 1 of 64 bytes on stream w0/gpu1/2 writes byte 0 of "
                    "memory 1 of w0/gpu0, which copy 1 of 64 bytes on stream "
                    "w0/gpu0/1 reads"});
    }
  }
}

TEST(GpuReportTest, AWriteThatDoesNotWaitForTheWrite) {
  for (const bool waits : {false, true}) {
    const auto body = [waits](GpuRig& rig) {
      char* const a = rig.Memory();
      char* const b = rig.Memory();
      const GpuStream first = rig.Stream();
      rig.Copy(b, a, first);
      // The default stream is a stream like any other.
      if (waits) rig.Order(first, GpuStream{});
      rig.Copy(b, a, GpuStream{});
      rig.Synchronize(GpuStream{});
    };
    if (waits) {
      ExpectClean(body);
    } else {
      ExpectReport(body, "gpu-race",
                   {"on stream w0/gpu0/default writes byte 0 of memory 2",
                    "on stream w0/gpu0/1 writes"});
    }
  }
}

TEST(GpuReportTest, AWaitForAnEarlierRecordIsNotEnough) {
  ExpectReport(
      [](GpuRig& rig) {
        char* const a = rig.Memory();
        char* const b = rig.Memory();
        char* const c = rig.Memory();
        const GpuStream writer = rig.Stream();
        const GpuStream reader = rig.Stream();
        rig.Copy(c, a, writer);
        rig.Order(writer, reader);
        rig.Copy(b, a, writer);
        const GpuEvent event = rig.Event();
        EXPECT_TRUE(rig.gpu().Record(event, writer).ok());
        rig.Copy(c, b, reader);
      },
      "gpu-race",
      {"which copy 3 of 64 bytes on stream w0/gpu0/1 writes",
       "must wait for event w0/gpu0/2, which was recorded on stream "
       "w0/gpu0/1 after that copy"});
}

TEST(GpuReportTest, OrderGoesThroughOtherStreams) {
  ExpectClean([](GpuRig& rig) {
    char* const a = rig.Memory();
    char* const b = rig.Memory();
    char* const c = rig.Memory();
    const GpuStream streams[] = {rig.Stream(), rig.Stream(), rig.Stream()};
    rig.Copy(b, a, streams[0]);
    rig.Order(streams[0], streams[1]);
    rig.Order(streams[1], streams[2]);
    rig.Copy(c, b, streams[2]);
    // And through the host.
    rig.Synchronize(streams[2]);
    rig.Copy(b, a, streams[1]);
  });
}

TEST(GpuReportTest, AThreadThatReadsWithoutHavingWaited) {
  enum class How { kNot, kSynchronize, kEvent, kPoll, kCallback };
  for (const bool on_gpu : {false, true}) {
    for (const How how : {How::kNot, How::kSynchronize, How::kEvent, How::kPoll,
                          How::kCallback}) {
      const auto body = [=](GpuRig& rig) {
        char* const from = rig.Memory();
        char* const to = on_gpu ? rig.Memory() : rig.Pinned();
        const GpuStream stream = rig.Stream();
        const GpuEvent event = rig.Event();
        bool called = false;
        rig.Copy(to, from, stream);
        EXPECT_TRUE(rig.gpu().Record(event, stream).ok());
        if (how == How::kSynchronize) rig.Synchronize(stream);
        if (how == How::kEvent) {
          EXPECT_TRUE(rig.gpu().Synchronize(event).ok());
        }
        if (how == How::kPoll) {
          while (!Value(rig.gpu().IsDone(event))) {
            rig.Sleep(absl::Microseconds(10));
          }
        }
        if (how == How::kCallback) {
          EXPECT_TRUE(
              rig.gpu()
                  .AddCallback(
                      stream, [&called](const absl::Status&) { called = true; })
                  .ok());
          while (!called) rig.Sleep(absl::Microseconds(10));
        }
        // Time is no order.
        rig.Sleep(absl::Milliseconds(10));
        rig.Peek(0, to + 5);
        rig.Fill(0, to, 'y');
      };
      if (how != How::kNot) {
        ExpectClean(body, 3);
      } else {
        ExpectReport(body, "gpu-race",
                     {"thread w0/main reads byte 5 of ", "memory 2 of w0",
                      "which copy 1 of 64 bytes on stream w0/gpu0/1 writes",
                      "the host must wait for stream w0/gpu0/1"});
      }
    }
  }
}

TEST(GpuReportTest, AThreadThatWritesWhatACopyReads) {
  for (const bool waits : {false, true}) {
    const auto body = [waits](GpuRig& rig) {
      char* const pinned = rig.Pinned();
      char* const to = rig.Memory();
      const GpuStream stream = rig.Stream();
      rig.Copy(to, pinned, stream);
      if (waits) rig.Synchronize(stream);
      rig.Peek(0, pinned);  // Reading is right in any case.
      rig.Fill(0, pinned, 'y');
    };
    if (waits) {
      ExpectClean(body);
    } else {
      ExpectReport(body, "gpu-race",
                   {"thread w0/main writes byte 0 of pinned memory 1 of w0",
                    "stream w0/gpu0/1 reads"});
    }
  }
}

// A thread that says nothing is caught by the bytes.
TEST(GpuReportTest, AThreadThatWritesWhatACopyReadsAndDoesNotSaySo) {
  for (const bool waits : {false, true}) {
    const auto body = [waits](GpuRig& rig) {
      char* const pinned = rig.Pinned();
      char* const to = rig.Memory();
      const GpuStream stream = rig.Stream();
      rig.Copy(to, pinned, stream);
      if (waits) rig.Synchronize(stream);
      pinned[7] = 'y';
      rig.Sleep(absl::Milliseconds(20));
    };
    if (waits) {
      ExpectClean(body);
    } else {
      ExpectReport(body, "gpu-race",
                   {"changes pinned memory 1 of w0 at byte 7 before copy 1"});
    }
  }
}

// Work on GPUs may change pinned memory between the call and the copy.
TEST(GpuReportTest, AGpuThatWritesWhatALaterCopyReads) {
  ExpectClean([](GpuRig& rig) {
    char* const pinned = rig.Pinned(0, 'p');
    char* const a = rig.Memory(0, 0, 'a');
    char* const b = rig.Memory(0, 0, 'b');
    const GpuStream down = rig.Stream();
    const GpuStream up = rig.Stream();
    rig.Copy(pinned, a, down);
    rig.Order(down, up);
    rig.Copy(b, pinned, up);
    rig.Order(up, down);
    rig.Copy(pinned, a + 8, down, 0, 8);
    rig.Synchronize(up);
    EXPECT_EQ(rig.Peek(0, b), "a");
  });
}

// A pool above the driver gives a block to its next user.
TEST(GpuReportTest, MemoryThatIsHandedOutWhileAStreamUsesIt) {
  for (const bool waits : {false, true}) {
    const auto body = [waits](GpuRig& rig) {
      char* const block = rig.Memory();
      char* const other = rig.Memory();
      const GpuStream first_user = rig.Stream();
      const GpuStream second_user = rig.Stream();
      rig.Copy(other, block, first_user);
      if (waits) rig.Order(first_user, second_user);
      rig.Copy(block, rig.Memory(), second_user);
    };
    if (waits) {
      ExpectClean(body);
    } else {
      ExpectReport(body, "gpu-race", {"writes byte 0 of memory 1", "reads"});
    }
  }
}

TEST(GpuReportTest, TwoProcesses) {
  for (const bool waits : {false, true}) {
    const auto body = [waits](GpuRig& rig) {
      char* const slot = rig.Memory(0);
      char* const from = rig.Memory(0, 0, 'f');
      char* const to = rig.Memory(1);
      void* const opened = rig.Open(slot);
      const GpuEvent event = rig.Event(0, 0, /*is_shared=*/true);
      const GpuEvent peers =
          Value(rig.gpu(1).OpenEvent(0, Value(rig.gpu().ExportEvent(event))));
      const GpuStream sender = rig.Stream(0);
      const GpuStream receiver = rig.Stream(1);
      // Two chunks through one slot: one event says "filled" and "read".
      for (int i = 0; i < 2; ++i) {
        if (i > 0) {
          EXPECT_TRUE(rig.gpu(0).Wait(sender, event).ok());
        }
        rig.Copy(slot, from, sender);
        EXPECT_TRUE(rig.gpu(0).Record(event, sender).ok());
        if (waits) {
          EXPECT_TRUE(rig.gpu(1).Wait(receiver, peers).ok());
        }
        rig.Copy(to, opened, receiver, 1);
        EXPECT_TRUE(rig.gpu(1).Record(peers, receiver).ok());
      }
      rig.Synchronize(receiver, 1);
      EXPECT_EQ(rig.Peek(1, to), "f");
    };
    if (waits) {
      ExpectClean(body);
    } else {
      ExpectReport(body, "gpu-race",
                   {"on stream w1/gpu0/1 reads byte 0 of memory 1 of w0/gpu0, "
                    "which copy 1 of 64 bytes on stream w0/gpu0/1 writes",
                    "must wait for event w0/gpu0/1"});
    }
  }
}

}  // namespace
}  // namespace reprise
