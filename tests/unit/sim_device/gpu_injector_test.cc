// Fault lines that bring about the faults of GPUs.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fault_injection/fault.h"
#include "fault_injection/injector.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sim/network/network.h"
#include "sim/store/sim_store.h"
#include "tests/unit/sim_device/gpu_testing.h"

namespace reprise {
namespace {

using absl::StatusCode;
using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

// What each way to use GPUs comes to, at two times.
struct Seen {
  StatusCode allocate = StatusCode::kOk;
  StatusCode copy = StatusCode::kOk;
  bool copy_is_late = false;
  bool reads_peer = false;
  StatusCode open = StatusCode::kOk;
  friend bool operator==(const Seen&, const Seen&) = default;
};

const Seen kWell = {.reads_peer = true};

struct Ran {
  Seen during;
  Seen after;
  std::map<std::string, int64_t> injections;
};

Seen Use(GpuRig& rig, char* memory, const std::string& handle) {
  Seen seen;
  seen.allocate = rig.gpu(1).Allocate(0, 64).status().code();
  const int64_t begin_ns = rig.world().now_ns();
  absl::Status status = rig.gpu(1).Copy(memory, memory + 64, 64, GpuStream{});
  if (status.ok()) status = rig.gpu(1).Synchronize(GpuStream{});
  seen.copy = status.code();
  seen.copy_is_late = rig.world().now_ns() - begin_ns > 100 * kMillisecond;
  seen.reads_peer = rig.gpu(1).CanReadPeer(0, rig.gpu(1).properties(1).uuid);
  seen.open = rig.gpu(1).OpenMemory(0, handle).status().code();
  return seen;
}

// w1 uses its GPUs at 1 s and at 3 s.
Ran RunWith(const std::vector<std::string>& lines) {
  Ran ran;
  GpuRig rig(With(Policy::kRandom), {.spike_one_in = 0});
  Network network(*rig.world(), NetworkOptions());
  SimStoreServer store(*rig.world());
  SimDisks disks(*rig.world());
  Injector injector(
      *rig.world(), network, store, disks, rig.gpus(),
      Value(ParseFaults(lines, 2)),
      {[&rig](int32_t rank) { return &rig.node(rank); }, [](int32_t) {}});
  EXPECT_EQ(rig.Run([&] {
    char* const memory = rig.Memory(1, 0, 'x', 128);
    const std::string handle = Value(rig.gpu().ExportMemory(0, rig.Memory()));
    rig.Sleep(absl::Seconds(1));
    ran.during = Use(rig, memory, handle);
    rig.Sleep(absl::Seconds(2));
    ran.after = Use(rig, memory, handle);
  }),
            Outcome::kFinished)
      << rig.world()->failed_detail();
  ran.injections = injector.injections();
  return ran;
}

TEST(GpuInjectorTest, NoFault) {
  const Ran ran = RunWith({});
  EXPECT_EQ(ran.during, kWell);
  EXPECT_EQ(ran.after, kWell);
  EXPECT_THAT(ran.injections, IsEmpty());
}

TEST(GpuInjectorTest, EachKind) {
  const struct {
    std::string line;
    Seen during;
    Seen after;
  } kCases[] = {
      {"gpu-no-memory w1 after 500ms for 1s",
       {.allocate = StatusCode::kResourceExhausted, .reads_peer = true},
       kWell},
      {"gpu-copy-fails w1 after 500ms",
       {.copy = StatusCode::kInternal, .reads_peer = true},
       kWell},
      {"gpu-stall w1 after 500ms for 1s",
       {.copy_is_late = true, .reads_peer = true},
       kWell},
      {"gpu-lost w1 after 500ms",
       {.allocate = StatusCode::kUnavailable,
        .copy = StatusCode::kUnavailable,
        .reads_peer = true,
        .open = StatusCode::kUnavailable},
       {.allocate = StatusCode::kUnavailable,
        .copy = StatusCode::kUnavailable,
        .reads_peer = true,
        .open = StatusCode::kUnavailable}},
      {"gpu-no-peer w1 after 500ms for 1s", {.reads_peer = false}, kWell},
      {"gpu-no-ipc w1 after 500ms for ever",
       {.reads_peer = true, .open = StatusCode::kUnimplemented},
       {.reads_peer = true, .open = StatusCode::kUnimplemented}},
  };
  for (const auto& [line, during, after] : kCases) {
    SCOPED_TRACE(line);
    const Ran ran = RunWith({line});
    EXPECT_EQ(ran.during, during);
    EXPECT_EQ(ran.after, after);
    EXPECT_THAT(ran.injections,
                UnorderedElementsAre(
                    Pair(line.substr(0, line.find(' ')), testing::Gt(0))));
    // Of another worker's faults w1 knows nothing.
    std::string other = line;
    other.replace(other.find("w1"), 2, "w0");
    EXPECT_EQ(RunWith({other}).during, kWell);
  }
}

TEST(GpuInjectorTest, AtAnEventOfAGpu) {
  const Ran ran = RunWith({"gpu-copy-fails w1 when w1 gpu.put#1"});
  EXPECT_EQ(ran.during.copy, StatusCode::kInternal);
  EXPECT_EQ(ran.after, kWell);
}

}  // namespace
}  // namespace reprise
