// What a simulated GPU does when it is used rightly.

#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/sim_device/gpu_testing.h"

namespace reprise {
namespace {

using testing::ElementsAre;

constexpr int64_t kMiB = 1 << 20;

TEST(SimGpuTest, NodesOfAHostSeeTheSameGpus) {
  GpuRig rig;
  GpuDriver& w0 = rig.gpu(0);
  const auto other_order = rig.gpus().Connect(rig.node(2), 0, {1, 0});
  const auto elsewhere = rig.gpus().Connect(rig.node(3), /*host=*/1);
  ASSERT_EQ(w0.device_count(), 2);
  EXPECT_EQ(w0.properties(0).uuid, rig.gpu(1).properties(0).uuid);
  EXPECT_NE(w0.properties(0).uuid, w0.properties(1).uuid);
  EXPECT_EQ(w0.properties(0).uuid, other_order->properties(1).uuid);
  EXPECT_EQ(w0.properties(0).uuid.size(), 36u);
  EXPECT_NE(w0.properties(0).uuid, elsewhere->properties(0).uuid);
  EXPECT_TRUE(w0.CanReadPeer(0, w0.properties(1).uuid));
  EXPECT_TRUE(w0.CanReadPeer(0, other_order->properties(0).uuid));
  EXPECT_FALSE(w0.CanReadPeer(0, elsewhere->properties(0).uuid));
  EXPECT_FALSE(w0.CanReadPeer(0, "what"));
  EXPECT_EQ(rig.gpus().Connect(rig.node(0)).get(), &w0);
}

TEST(SimGpuTest, BytesAppearWhenTheCopyIsDone) {
  ExpectClean([](GpuRig& rig) {
    char* const from = rig.Memory(0, 0, 'a');
    char* const to = rig.Memory(0, 1, 'b');
    const GpuStream stream = rig.Stream();
    const int64_t begin_ns = rig.world().now_ns();
    rig.Copy(to + 8, from + 8, stream, 0, 48);
    // Real code cannot look; this test can.
    EXPECT_EQ(std::string(to, 64), std::string(64, 'b'));
    rig.Synchronize(stream);
    EXPECT_GT(rig.world().now_ns(), begin_ns);
    EXPECT_EQ(rig.Peek(0, to, 64),
              std::string(8, 'b') + std::string(48, 'a') + std::string(8, 'b'));
    rig.gpu().Free(0, from);
    rig.gpu().Free(1, to);
    EXPECT_EQ(rig.gpus().num_allocations(), 0);
  });
}

TEST(SimGpuTest, ManyBytesTakeLong) {
  GpuRig rig(With(Policy::kCooperative), {.spike_one_in = 0});
  const auto seconds = [&](void* to, const void* from) {
    const int64_t begin_ns = rig.world().now_ns();
    const GpuStream stream{};
    rig.Copy(to, from, stream, 0, 32 * kMiB);
    rig.Synchronize(stream);
    return static_cast<double>(rig.world().now_ns() - begin_ns) * 1e-9;
  };
  EXPECT_EQ(rig.Run([&] {
    char* const one = rig.Memory(0, 0, 'x', 32 * kMiB);
    char* const other = rig.Memory(0, 0, 'x', 32 * kMiB);
    char* const peer = rig.Memory(0, 1, 'x', 32 * kMiB);
    char* const pinned = rig.Pinned(0, 'x', 32 * kMiB);
    std::string plain(32 * kMiB, 'x');
    EXPECT_NEAR(seconds(one, other), 33.5e6 / 1.5e12, 20e-6);
    EXPECT_NEAR(seconds(one, peer), 33.5e6 / 200e9, 20e-6);
    EXPECT_NEAR(seconds(one, pinned), 33.5e6 / 50e9, 20e-6);
    EXPECT_NEAR(seconds(plain.data(), one), 33.5e6 / 8e9, 20e-6);
  }),
            Outcome::kFinished);
}

TEST(SimGpuTest, WorkOfAStreamRunsInItsOrder) {
  ExpectClean([](GpuRig& rig) {
    char* const a = rig.Memory(0, 0, 'a');
    char* const b = rig.Memory(0, 0, 'b');
    char* const c = rig.Memory(0, 0, 'c');
    for (const GpuStream stream : {rig.Stream(), GpuStream{}}) {
      rig.Copy(b, a, stream);
      rig.Copy(c, b, stream);
      rig.Synchronize(stream);
      EXPECT_EQ(rig.Peek(0, c), "a");
    }
  });
}

// Otherwise a missing wait would never be seen in the bytes.
TEST(SimGpuTest, StreamsRunInAnyOrder) {
  std::set<std::string> seen;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    GpuRig rig(With(Policy::kRandom, seed));
    std::vector<int> order;
    rig.Run([&] {
      const GpuStream streams[] = {rig.Stream(), rig.Stream(), GpuStream{}};
      char* const memory = rig.Memory(0, 0, 'x', 64 * 6);
      for (int i = 0; i < 3; ++i) {
        rig.Copy(memory + 128 * i, memory + 128 * i + 64, streams[i]);
        EXPECT_TRUE(rig.gpu()
                        .AddCallback(streams[i],
                                     [&order, i](const absl::Status&) {
                                       order.push_back(i);
                                     })
                        .ok());
      }
      for (const GpuStream stream : streams) rig.Synchronize(stream);
      ASSERT_EQ(order.size(), 3u);
    });
    seen.insert(testing::PrintToString(order));
  }
  EXPECT_EQ(seen.size(), 6u);
}

TEST(SimGpuTest, EventsOrderStreams) {
  ExpectClean([](GpuRig& rig) {
    char* const a = rig.Memory(0, 0, 'a');
    char* const b = rig.Memory(0, 1, 'b');
    char* const c = rig.Memory(0, 0, 'c');
    const GpuStream first = rig.Stream(0, 0);
    const GpuStream second = rig.Stream(0, 1);
    rig.Copy(b, a, first);
    rig.Order(first, second);
    rig.Copy(c, b, second);
    rig.Order(second, first);
    rig.Copy(b, c, first);
    rig.Synchronize(first);
    EXPECT_EQ(rig.Peek(0, c), "a");
    rig.gpu().DestroyStream(first);
    rig.gpu().DestroyStream(second);
    EXPECT_EQ(rig.gpu().Synchronize(first).code(), absl::StatusCode::kInternal);
  });
}

// A wait is for the latest record at the time of the call.
TEST(SimGpuTest, ALaterRecordHoldsNoEarlierWaitUp) {
  GpuRig rig(With(Policy::kCooperative));
  EXPECT_EQ(rig.Run([&] {
    const GpuStream quick = rig.Stream();
    const GpuStream slow = rig.Stream();
    const GpuEvent event = rig.Event();
    char* const big = rig.Pinned(0, 'x', 64 * kMiB);
    char* const memory = rig.Memory(0, 0, 'x', 64 * kMiB);
    ASSERT_TRUE(rig.gpu().Record(event, quick).ok());
    ASSERT_TRUE(rig.gpu().Wait(quick, event).ok());
    rig.Copy(memory, big, slow, 0, 64 * kMiB);
    ASSERT_TRUE(rig.gpu().Record(event, slow).ok());
    rig.Synchronize(quick);
    EXPECT_FALSE(Value(rig.gpu().IsDone(event)));
    EXPECT_TRUE(rig.gpu().Synchronize(event).ok());
    EXPECT_TRUE(Value(rig.gpu().IsDone(event)));
  }),
            Outcome::kFinished);
}

TEST(SimGpuTest, ACallbackComesAfterTheWorkAndHoldsTheStreamUp) {
  ExpectClean([](GpuRig& rig) {
    char* const pinned = rig.Pinned(0, 'p');
    char* const memory = rig.Memory(0, 0, 'm');
    char* const other = rig.Memory(0, 0, 'o');
    const GpuStream stream = rig.Stream();
    std::vector<std::string> seen;
    rig.Copy(pinned, memory, stream);
    EXPECT_TRUE(rig.gpu()
                    .AddCallback(stream,
                                 [&](const absl::Status& status) {
                                   EXPECT_TRUE(status.ok());
                                   rig.Sleep(absl::Milliseconds(1));
                                   seen.push_back(rig.Peek(0, pinned));
                                   seen.push_back(std::string(other, 1));
                                 })
                    .ok());
    rig.Copy(other, memory, stream);
    rig.Synchronize(stream);
    EXPECT_THAT(seen, ElementsAre("m", "o"));
    EXPECT_EQ(rig.Peek(0, other), "m");
  });
}

TEST(SimGpuTest, PlainMemoryIsReadAtTheCallAndWrittenBeforeItReturns) {
  ExpectClean([](GpuRig& rig) {
    char* const memory = rig.Memory(0, 0, 'm');
    const GpuStream stream = rig.Stream();
    std::string plain(64, 'p');
    rig.Copy(memory, plain.data(), stream);
    plain.assign(64, 'q');
    std::string back(64, '?');
    rig.Copy(back.data(), memory, stream);
    EXPECT_EQ(back, std::string(64, 'p'));
    std::string again(64, '?');
    rig.Copy(again.data(), plain.data(), stream);
    EXPECT_EQ(again, plain);
  });
}

TEST(SimGpuTest, RegisteredMemoryIsAsPinned) {
  ExpectClean([](GpuRig& rig) {
    void* const pages = std::aligned_alloc(4096, 8192);
    std::memset(pages, 'r', 8192);
    EXPECT_TRUE(rig.gpu().RegisterHost(pages, 8192).ok());
    EXPECT_FALSE(rig.gpu().RegisterHost(pages, 4096).ok());
    EXPECT_FALSE(
        rig.gpu().RegisterHost(static_cast<char*>(pages) + 1, 4096).ok());
    EXPECT_EQ(rig.gpu().FindAllocation(pages).status().code(),
              absl::StatusCode::kNotFound);
    char* const memory = rig.Memory();
    const GpuStream stream = rig.Stream();
    const int64_t begin_ns = rig.world().now_ns();
    rig.Copy(memory, static_cast<char*>(pages) + 100, stream);
    EXPECT_LE(rig.world().now_ns() - begin_ns, 200'000);  // at most stalls
    rig.Synchronize(stream);
    EXPECT_EQ(rig.Peek(0, memory), "r");
    rig.gpu().UnregisterHost(pages);
    std::free(pages);
  });
}

TEST(SimGpuTest, APointerIsKnownByItsAllocation) {
  ExpectClean([](GpuRig& rig) {
    char* const memory = rig.Memory(0, 1, 'x', 1000);
    char* const more = rig.Memory(0, 1, 'x', 1000);
    const auto found = Value(rig.gpu().FindAllocation(memory + 999));
    EXPECT_EQ(found.device, 1);
    EXPECT_EQ(found.base, memory);
    EXPECT_EQ(found.num_bytes, 1000u);
    EXPECT_TRUE(found.may_be_exported);
    EXPECT_NE(found.id, Value(rig.gpu().FindAllocation(more)).id);
    for (const void* other : {static_cast<const void*>(rig.Pinned()),
                              static_cast<const void*>(&rig)}) {
      EXPECT_EQ(rig.gpu().FindAllocation(other).status().code(),
                absl::StatusCode::kNotFound);
    }
    EXPECT_EQ(rig.gpu(1).FindAllocation(memory).status().code(),
              absl::StatusCode::kNotFound);
    // An address may come again, an id does not.
    std::set<uint64_t> ids;
    for (int i = 0; i < 20; ++i) {
      void* const next = Value(rig.gpu().Allocate(0, 4096));
      ids.insert(Value(rig.gpu().FindAllocation(next)).id);
      rig.gpu().Free(0, next);
    }
    EXPECT_EQ(ids.size(), 20u);
  });
}

TEST(SimGpuTest, AGpuHasSoMuchMemoryForAll) {
  ExpectClean([](GpuRig& rig) {
    const size_t all = rig.gpu().properties(0).memory_bytes;
    char* const memory = rig.Memory();
    EXPECT_EQ(rig.gpu(1).Allocate(0, all).status().code(),
              absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(rig.gpu(1).Allocate(0, SIZE_MAX).status().code(),
              absl::StatusCode::kResourceExhausted);
    EXPECT_FALSE(rig.gpu().Allocate(0, 0).ok());
    EXPECT_FALSE(rig.gpu().Allocate(2, 64).ok());
    rig.gpu().Free(0, memory);
    EXPECT_TRUE(rig.gpu(1).Allocate(0, 64).ok());
  });
}

// Without it a run would depend on what is left in the heap.
TEST(SimGpuTest, MemoryThatWasNeverWrittenHasDefinedBytes) {
  ExpectClean([](GpuRig& rig) {
    const size_t num_bytes = 200'000;
    auto* const memory =
        static_cast<char*>(Value(rig.gpu().Allocate(0, num_bytes)));
    auto* const pinned =
        static_cast<char*>(Value(rig.gpu().AllocatePinned(1000)));
    const std::string fresh(num_bytes, '\xa5');
    EXPECT_EQ(std::string(pinned, 1000), fresh.substr(0, 1000));
    rig.Fill(0, memory + 70'000, 'x', 10);
    rig.Copy(pinned, memory + num_bytes - 1000, GpuStream{}, 0, 1000);
    rig.Synchronize(GpuStream{});
    EXPECT_EQ(std::string(pinned, 1000), fresh.substr(0, 1000));
    EXPECT_EQ(
        rig.Peek(0, memory, num_bytes),
        fresh.substr(0, 70'000) + std::string(10, 'x') + fresh.substr(70'010));
    // What is handed out again has the bytes that were left in it.
    rig.gpu().Free(0, memory);
    auto* const again =
        static_cast<char*>(Value(rig.gpu().Allocate(0, num_bytes)));
    EXPECT_EQ(rig.Peek(0, again + 70'000, 1), again == memory ? "x" : "\xa5");
  });
}

// `Free` waits for the process's own work.
TEST(SimGpuTest, MemoryMayBeFreedUnderOnesOwnWork) {
  ExpectClean([](GpuRig& rig) {
    char* const from = rig.Memory(0, 0, 'f');
    char* const to = rig.Memory(0, 0, 't');
    const GpuStream stream = rig.Stream();
    rig.Copy(to, from, stream);
    rig.gpu().Free(0, from);
    EXPECT_EQ(rig.Peek(0, to), "f");
  });
}

struct Ran {
  uint64_t hash;
  int64_t now_ns;
  std::vector<Decision> decisions;
};

Ran RunBusily(uint64_t seed, const std::vector<Decision>* recording = nullptr) {
  WorldOptions options = With(Policy::kRandom, seed);
  options.recording = recording;
  GpuRig rig(options);
  for (int rank : {0, 1}) {
    rig.world().Start(rank, "busy", [&rig, rank] {
      char* const memory = rig.Memory(rank, 0, 'x', 640);
      std::vector<GpuStream> streams;
      for (int i = 0; i < 5; ++i) streams.push_back(rig.Stream(rank));
      for (int i = 0; i < 20; ++i) {
        rig.Copy(memory + 128 * (i % 5), memory + 128 * (i % 5) + 64,
                 streams[static_cast<size_t>(i % 5)], rank);
      }
      for (const GpuStream stream : streams) rig.Synchronize(stream, rank);
      rig.gpu(rank).Free(0, memory);
    });
  }
  EXPECT_EQ(rig.world().Run(), Outcome::kFinished);
  EXPECT_EQ(rig.world()->decisions().FirstMismatch(), "");
  return {rig.world()->trace().hash(), rig.world().now_ns(),
          rig.world()->decisions().kept()};
}

TEST(SimGpuTest, ARunIsAFunctionOfItsSeed) {
  std::set<uint64_t> hashes;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Ran ran = RunBusily(seed);
    const std::string other_heap(1000 * seed, 'x');
    EXPECT_EQ(RunBusily(seed).hash, ran.hash);
    EXPECT_EQ(RunBusily(seed, &ran.decisions).hash, ran.hash);
    hashes.insert(ran.hash);
  }
  EXPECT_EQ(hashes.size(), 20u);
}

// A draw on one stream shifts none on another.
TEST(SimGpuTest, StreamsDrawOnTheirOwn) {
  const auto last_of_second = [](int copies_of_first) {
    GpuRig rig(With(Policy::kCooperative, 7));
    int64_t done_ns = 0;
    rig.Run([&] {
      char* const memory = rig.Memory(0, 0, 'x', 256);
      const GpuStream first = rig.Stream();
      const GpuStream second = rig.Stream();
      for (int i = 0; i < copies_of_first; ++i) {
        rig.Copy(memory, memory + 64, first);
      }
      for (int i = 0; i < 10; ++i) {
        rig.Copy(memory + 128, memory + 192, second);
      }
      rig.Synchronize(second);
      done_ns = rig.world().now_ns();
    });
    return done_ns;
  };
  EXPECT_EQ(last_of_second(1), last_of_second(9));
}

TEST(SimGpuTest, WorkIsInTheTrace) {
  GpuRig rig(With(Policy::kCooperative));
  rig.Run([&] {
    char* const memory = rig.Memory(0, 0, 'x', 128);
    rig.Copy(memory, memory + 64, rig.Stream(0, 0));
  });
  std::vector<std::string> events;
  for (const Event& event : rig.world()->trace().events()) {
    if (event.kind != EventKind::kGpuPut && event.kind != EventKind::kGpuDone) {
      continue;
    }
    events.push_back(std::string(ToString(event.kind)) + " " + event.text);
  }
  EXPECT_THAT(events,
              ElementsAre("gpu.put copy 1 of 64 bytes on stream w0/gpu0/1",
                          "gpu.done copy 1 of 64 bytes on stream w0/gpu0/1"));
}

}  // namespace
}  // namespace reprise
