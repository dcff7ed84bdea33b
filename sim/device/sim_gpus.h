// The simulated GPUs of a world.
//
// Each host has some GPUs, and all nodes of one host see the same. A node's
// driver is a `GpuDriver` (agent/device/driver.h) whose streams run in virtual
// time. Memory is memory of this process; the bytes of a copy appear all at
// once when the copy ends. Memory that was never written is full of 0xa5.
//
// The GPUs report, as violations of the world, what no real GPU reports:
//
//  gpu-race      an access to memory that a stream writes, or a write to memory
//                that a stream reads, is not ordered after it; the host changes
//                memory that a copy has still to read
//  gpu-freed     memory is freed, or no longer pinned, while work uses it for
//                which `Free` does not wait; it is used or freed after that
//  gpu-event     an event is waited for before it was ever recorded
//  gpu-handle    a handle is opened after its owner freed the memory or
//                destroyed the event, or such an event is used
//  gpu-memory    a range ends behind its allocation; memory of another process
//                is used that was not opened; what is freed is no allocation
//  gpu-callback  a callback of a stream calls the driver
//
// Order is that of streams, events and callbacks, and not the time at which
// work happens to run, so a missing wait is reported even where the bytes are
// right. All threads of all nodes count as one timeline: what one of them has
// learned to be done is done for whatever is called after that. So a thread
// that goes on by luck instead of being told is seen only under schedules in
// which the luck fails. Threads that read or write memory themselves are seen
// only if they say so (`Peek`, `Poke`, `HostReads`, `HostWrites`).

#ifndef REPRISE_SIM_DEVICE_SIM_GPUS_H_
#define REPRISE_SIM_DEVICE_SIM_GPUS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/driver.h"
#include "fault_injection/fault_kind.h"
#include "sim/device/access_log.h"
#include "sim/device/gpu_memory.h"
#include "sim/device/gpu_stream.h"
#include "sim/device/vector_clock.h"
#include "sim/world/world.h"

namespace reprise {

struct SimGpuOptions {
  int gpus_per_host = 2;
  size_t memory_bytes = size_t{1} << 30;  // of a GPU
  // The time of work on a stream: a latency, uniform between these, and a
  // longer one now and then, and the time for the bytes of a copy.
  int64_t latency_min_ns = 1'000;
  int64_t latency_spread_ns = 9'000;
  int64_t spike_one_in = 50;  // 0: no spikes
  int64_t spike_max_ns = 500'000;
  int64_t bytes_per_second = 1'500'000'000'000;  // within a GPU
  int64_t peer_bytes_per_second = 200'000'000'000;
  int64_t pinned_bytes_per_second = 50'000'000'000;
  int64_t pageable_bytes_per_second = 8'000'000'000;
  // How long calls take that allocate or share memory.
  int64_t allocate_ns = 40'000;
  int64_t open_ns = 136'000;
  // Whether the memory of devices may be exported. That of a stream-ordered
  // pool may not.
  bool may_be_exported = true;
};

class SimGpuDriver;

// It is used on the world's OS thread only. Functions of its drivers that block
// are called on fibers of their node. The drivers must not be used after it is
// gone.
class SimGpus {
 public:
  SimGpus(World& world, SimGpuOptions options);
  SimGpus(const SimGpus&) = delete;
  SimGpus& operator=(const SimGpus&) = delete;
  ~SimGpus();

  // The driver of `node`, which runs on the host with this number. The node
  // sees the GPUs with these numbers, in this order; none: all. Another call
  // for the same node returns the same driver, and another host or other GPUs
  // in it change nothing.
  std::shared_ptr<GpuDriver> Connect(Node& node, int host = 0,
                                     const std::vector<int>& gpus = {});

  // Reads and writes any memory as a thread of `node` would that has no stream,
  // and reports what is not ordered. NOT_FOUND for device memory that the node
  // may not use.
  absl::StatusOr<std::string> Peek(const Node& node, const void* memory,
                                   size_t num_bytes);
  absl::Status Poke(const Node& node, void* memory, std::string_view bytes);
  // A thread of `node` is about to read, or write, memory of the host.
  void HostReads(const Node& node, const void* memory, size_t num_bytes);
  void HostWrites(const Node& node, const void* memory, size_t num_bytes);

  // Faults. They concern ranks, whatever incarnation of the worker is alive,
  // and begin at once. kNever: for ever.

  // Allocations fail with RESOURCE_EXHAUSTED.
  void RefuseMemory(int32_t rank, int64_t until_ns);
  // The next copy that ends fails, with the first half of its bytes written.
  void FailNextCopy(int32_t rank);
  // Streams begin no work.
  void StallStreams(int32_t rank, int64_t until_ns);
  // Every call for its devices (or for one of them) fails with UNAVAILABLE,
  // and so does what is on their streams, until the worker is started again.
  void LoseDevices(int32_t rank, int device = -1);
  // No device may read the memory of another one.
  void RefusePeers(int32_t rank, int64_t until_ns);
  // Nothing can be exported and nothing opened.
  void RefuseSharing(int32_t rank, int64_t until_ns);
  // What happens to the exported memory of a worker that crashes while others
  // have it open. Drawn for each crash unless this is called.
  void KeepMemoryOfCrashed(bool keep) { keep_of_crashed_ = keep; }
  // `watcher` is called each time when a fault that was set up above strikes.
  void OnInjected(std::function<void(FaultKind)> watcher) {
    on_injected_ = std::move(watcher);
  }

  // At the end of a run: allocations of devices and of pinned memory, and
  // ranges that are registered, of nodes that did not crash.
  int64_t num_allocations() const { return num_allocations_; }

 private:
  friend class SimGpuDriver;
  friend class SimGpuStream;

  struct Faults {
    int64_t no_memory_until_ns = 0;
    int64_t stalled_until_ns = 0;
    int64_t no_peer_until_ns = 0;
    int64_t no_sharing_until_ns = 0;
    int64_t copies_to_fail = 0;
  };

  PhysicalGpu& GpuAt(int host, int index);
  SimGpuStream& MakeStream(SimGpuDriver& driver, GpuStream stream);
  void NodeCrashed(Node& node);

  // Whether the fault that lasts until then strikes now.
  bool Strikes(int64_t until_ns, FaultKind kind);
  void Injected(FaultKind kind) {
    if (on_injected_) on_injected_(kind);
  }

  // A thread has learned that this has happened.
  void HostKnows(const VectorClock& clock) { host_clock_.Join(clock); }

  // Reports the access unless it is ordered.
  void CheckStreamAccess(const SimGpuStream& stream, std::string_view what,
                         const void* memory, size_t num_bytes, bool writes,
                         const VectorClock& clock);
  void CheckHostAccess(std::string_view what, const void* memory,
                       size_t num_bytes, bool writes);
  // Reports that a thread of `node` does `verb` with `memory` unless all work
  // on it is known to be done. `only_own`: only work of `node`.
  void CheckUnused(const Node& node, std::string_view verb,
                   const SimGpuMemory& memory, bool only_own);
  // The thread of `node` that runs.
  std::string ThreadOf(const Node& node) const;
  std::string NameOf(uintptr_t address) const;
  void Violated(std::string_view rule, std::string_view detail) {
    world_.Fail(rule, detail);
  }

  World& world_;
  const SimGpuOptions options_;
  std::map<std::pair<int, int>, std::unique_ptr<PhysicalGpu>> gpus_;
  std::vector<std::shared_ptr<SimGpuDriver>> drivers_;
  std::vector<std::unique_ptr<SimGpuStream>> streams_;  // by timeline
  SimGpuMemories memories_;
  AccessLog log_;
  VectorClock host_clock_;
  // By handle.
  std::map<std::string, std::shared_ptr<SimGpuMemory>> exported_memory_;
  std::map<std::string, std::shared_ptr<SimGpuEvent>> exported_events_;
  uint64_t num_events_ = 0;
  std::map<int32_t, Faults> faults_;
  std::optional<bool> keep_of_crashed_;
  std::function<void(FaultKind)> on_injected_;
  int64_t num_allocations_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_SIM_DEVICE_SIM_GPUS_H_
