// Memory, events and handles that are used wrongly, and rightly.

#include <cstdlib>
#include <string>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "tests/unit/sim_device/gpu_testing.h"

namespace reprise {
namespace {

TEST(GpuMisuseTest, PinnedMemoryThatIsFreedTooEarly) {
  for (const bool waits : {false, true}) {
    const auto body = [waits](GpuRig& rig) {
      char* const pinned = rig.Pinned();
      char* const to = rig.Memory();
      const GpuStream stream = rig.Stream();
      rig.Copy(to, pinned, stream);
      if (waits) rig.Synchronize(stream);
      rig.gpu().FreePinned(pinned);
    };
    if (waits) {
      ExpectClean(body);
    } else {
      ExpectReport(body, "gpu-freed",
                   {"thread w0/main frees pinned memory 1 of w0 while copy 1 "
                    "of 64 bytes on stream w0/gpu0/1 may still use it"});
    }
  }
}

TEST(GpuMisuseTest, MemoryThatIsUnregisteredTooEarly) {
  static void* const pages = std::aligned_alloc(4096, 4096);
  for (const bool waits : {false, true}) {
    const auto body = [waits](GpuRig& rig) {
      EXPECT_TRUE(rig.gpu().RegisterHost(pages, 4096).ok());
      const GpuStream stream = rig.Stream();
      rig.Copy(pages, rig.Memory(), stream);
      if (waits) rig.Synchronize(stream);
      rig.gpu().UnregisterHost(pages);
    };
    if (waits) {
      ExpectClean(body);
    } else {
      ExpectReport(body, "gpu-freed",
                   {"unregisters registered memory 1 of w0 while copy 1"});
    }
  }
}

// `Free` waits for the work of its own process only.
TEST(GpuMisuseTest, MemoryThatIsFreedUnderAPeer) {
  for (const bool waits : {false, true}) {
    const auto body = [waits](GpuRig& rig) {
      char* const memory = rig.Memory(0);
      char* const to = rig.Memory(1);
      void* const opened = rig.Open(memory);
      const GpuStream stream = rig.Stream(1);
      rig.Copy(to, opened, stream, 1);
      if (waits) {
        rig.Synchronize(stream, 1);
        rig.gpu(1).CloseMemory(0, opened);
      }
      rig.gpu(0).Free(0, memory);
    };
    if (waits) {
      ExpectClean(body);
    } else {
      ExpectReport(body, "gpu-freed",
                   {"thread w0/main frees memory 1 of w0/gpu0 while copy 1 of "
                    "64 bytes on stream w1/gpu0/1 may still use it",
                    "the host must wait for stream w1/gpu0/1"});
    }
  }
}

TEST(GpuMisuseTest, FreedMemoryThatIsUsed) {
  ExpectReport(
      [](GpuRig& rig) {
        char* const memory = rig.Memory();
        char* const to = rig.Memory();
        rig.gpu().Free(0, memory);
        EXPECT_FALSE(rig.gpu().Copy(to, memory, 64, GpuStream{}).ok());
      },
      "gpu-freed",
      {"copy 1 of 64 bytes on stream w0/gpu0/default uses memory 1 of "
       "w0/gpu0 after its owner freed it"});
  ExpectReport(
      [](GpuRig& rig) {
        char* const memory = rig.Memory();
        rig.gpu().Free(0, memory);
        EXPECT_FALSE(rig.gpus().Peek(rig.node(), memory, 1).ok());
      },
      "gpu-freed", {"thread w0/main uses memory 1 of w0/gpu0"});
  ExpectReport(
      [](GpuRig& rig) {
        char* const memory = rig.Pinned();
        char* const to = rig.Memory();
        rig.gpu().FreePinned(memory);
        EXPECT_FALSE(rig.gpu().Copy(to, memory, 64, GpuStream{}).ok());
      },
      "gpu-freed", {"uses pinned memory 1 of w0 after"});
  ExpectReport(
      [](GpuRig& rig) {
        char* const memory = rig.Memory();
        rig.gpu().Free(0, memory);
        rig.gpu().Free(0, memory);
      },
      "gpu-freed", {"frees memory 1 of w0/gpu0 a second time"});
}

// A peer's stale address is known even if it has become another allocation's.
TEST(GpuMisuseTest, OpenedMemoryThatItsOwnerFreed) {
  ExpectReport(
      [](GpuRig& rig) {
        char* const memory = rig.Memory();
        void* const opened = rig.Open(memory);
        char* const to = rig.Memory(1);
        rig.gpu().Free(0, memory);
        rig.Memory();
        EXPECT_FALSE(rig.gpu(1).Copy(to, opened, 64, GpuStream{}).ok());
      },
      "gpu-freed", {"w1/gpu0/default uses memory 1 of w0/gpu0"});
}

TEST(GpuMisuseTest, RangesThatAreNone) {
  const struct {
    void (*body)(GpuRig& rig);
    std::string rule_words;
  } kCases[] = {
      {[](GpuRig& rig) { rig.gpu().Free(0, rig.Memory() + 8); },
       "frees what is no allocation of device 0: byte 8 of memory 1"},
      {[](GpuRig& rig) { rig.gpu().Free(1, rig.Memory()); },
       "frees what is no allocation of device 1"},
      {[](GpuRig& rig) { rig.gpu(1).Free(0, rig.Memory()); },
       "frees what is no allocation of device 0"},
      {[](GpuRig& rig) { rig.gpu().Free(0, &rig); }, "memory of the host"},
      {[](GpuRig& rig) { rig.gpu().FreePinned(rig.Memory()); },
       "frees what is no such memory"},
      {[](GpuRig& rig) { rig.gpu().UnregisterHost(rig.Pinned()); },
       "unregisters what is no such memory"},
      {[](GpuRig& rig) {
         char* const memory = rig.Memory();
         char* const to = rig.Memory(0, 0, 'x', 128);
         rig.gpu().Copy(to, memory + 1, 64, GpuStream{}).IgnoreError();
       },
       "copy 1 of 64 bytes on stream w0/gpu0/default reaches behind the end "
       "of memory 1"},
      {[](GpuRig& rig) {
         char* const to = rig.Memory(1);
         rig.gpu(1).Copy(to, rig.Memory(0), 64, GpuStream{}).IgnoreError();
       },
       "uses memory 2 of w0/gpu0, which w1 has not opened"},
      {[](GpuRig& rig) { rig.gpu(1).CloseMemory(0, rig.Memory()); },
       "closes byte 0 of memory 1 of w0/gpu0, which it has not opened"},
  };
  for (const auto& [body, words] : kCases) {
    ExpectReport(body, "gpu-memory", {words}, 1);
  }
}

TEST(GpuMisuseTest, AnEventThatWasNeverRecorded) {
  ExpectReport(
      [](GpuRig& rig) {
        EXPECT_TRUE(rig.gpu().Wait(rig.Stream(), rig.Event()).ok());
      },
      "gpu-event",
      {"stream w0/gpu0/1 waits for event w0/gpu0/1, which was never recorded"});
  ExpectReport(
      [](GpuRig& rig) { EXPECT_TRUE(rig.gpu().Synchronize(rig.Event()).ok()); },
      "gpu-event", {"thread w0/main waits for event w0/gpu0/1"});
  ExpectClean([](GpuRig& rig) {
    const GpuEvent event = rig.Event();
    EXPECT_TRUE(Value(rig.gpu().IsDone(event)));
    EXPECT_TRUE(rig.gpu().Record(event, rig.Stream()).ok());
    EXPECT_TRUE(rig.gpu().Wait(rig.Stream(), event).ok());
    EXPECT_TRUE(rig.gpu().Synchronize(event).ok());
  });
}

TEST(GpuMisuseTest, HandlesThatAreOpenedTooLate) {
  ExpectReport(
      [](GpuRig& rig) {
        char* const memory = rig.Memory();
        const std::string handle = Value(rig.gpu().ExportMemory(0, memory));
        rig.gpu().Free(0, memory);
        EXPECT_EQ(rig.gpu(1).OpenMemory(0, handle).status().code(),
                  absl::StatusCode::kInvalidArgument);
      },
      "gpu-handle", {"opens memory 1 of w0/gpu0 after its owner freed it"});
  ExpectReport(
      [](GpuRig& rig) {
        const GpuEvent event = rig.Event(0, 0, /*is_shared=*/true);
        const std::string handle = Value(rig.gpu().ExportEvent(event));
        rig.gpu().DestroyEvent(event);
        EXPECT_EQ(rig.gpu(1).OpenEvent(0, handle).status().code(),
                  absl::StatusCode::kInvalidArgument);
      },
      "gpu-handle", {"opens event w0/gpu0/1 after its owner destroyed it"});
  ExpectReport(
      [](GpuRig& rig) {
        const GpuEvent event = rig.Event(0, 0, /*is_shared=*/true);
        EXPECT_TRUE(rig.gpu().Record(event, GpuStream{}).ok());
        const GpuEvent opened =
            Value(rig.gpu(1).OpenEvent(0, Value(rig.gpu().ExportEvent(event))));
        rig.gpu().DestroyEvent(event);
        EXPECT_TRUE(rig.gpu(1).Wait(GpuStream{}, opened).ok());
      },
      "gpu-handle", {"uses event w0/gpu0/1 after its owner destroyed it"});
}

TEST(GpuMisuseTest, MemoryThatIsClosedTooEarly) {
  for (const bool waits : {false, true}) {
    const auto body = [waits](GpuRig& rig) {
      char* const memory = rig.Memory();
      void* const opened = rig.Open(memory);
      const GpuStream stream = rig.Stream(1);
      rig.Copy(rig.Memory(1), opened, stream, 1);
      if (waits) rig.Synchronize(stream, 1);
      // What its owner does with it is no matter of the peer's.
      rig.Copy(rig.Memory(0), memory, GpuStream{});
      rig.gpu(1).CloseMemory(0, opened);
    };
    if (waits) {
      ExpectClean(body);
    } else {
      ExpectReport(body, "gpu-freed", {"closes memory 1 of w0/gpu0 while"});
    }
  }
}

TEST(GpuMisuseTest, ACallbackThatCallsTheDriver) {
  ExpectReport(
      [](GpuRig& rig) {
        const GpuStream stream = rig.Stream();
        EXPECT_TRUE(rig.gpu()
                        .AddCallback(stream,
                                     [&rig](const absl::Status&) {
                                       rig.gpu().CreateStream(0).IgnoreError();
                                     })
                        .ok());
        rig.Synchronize(stream);
      },
      "gpu-callback", {"a callback of a stream of w0 calls the driver"});
}

}  // namespace
}  // namespace reprise
