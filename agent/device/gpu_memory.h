// Memory of GPUs, and pinned memory of the host, kept for reuse.
//
// Getting memory from the driver takes some 100 µs, and giving it back waits
// for the device. So blocks that nobody uses any more are kept, up to a bound.
//
// A storage dies on the host while streams may still work on its memory. It
// knows which (`Storage::RecordUse`), and leaves an event on each of them. A
// block is handed out again when those events are done. When there is no other
// memory, one that is still used is handed out for a stream that waits for
// them. The host waits for a device only where memory is freed, beyond the
// bound or because there is no other, and where a stream takes no event.

#ifndef REPRISE_AGENT_DEVICE_GPU_MEMORY_H_
#define REPRISE_AGENT_DEVICE_GPU_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "agent/device/block_cache.h"
#include "agent/device/device.h"
#include "agent/device/gpu_streams.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Thread-safe. May be destroyed before its storages; runtime and driver must
// outlive them. The callbacks of a driver may neither call anything here nor
// let go of a storage. Errors are those of the driver.
class GpuMemory {
 public:
  struct Options {
    // What nobody uses is kept up to these bounds, the latest of it.
    size_t max_cached_bytes_per_device = size_t{2} << 30;
    size_t max_cached_pinned_bytes = size_t{512} << 20;
  };

  // `streams`: shared with the storages, so that their streams outlive them.
  GpuMemory(Runtime& runtime, std::shared_ptr<GpuStreams> streams,
            const Options& options);
  ~GpuMemory();

  // Uninitialised memory of `stream.device`, at an address that is a multiple
  // of 256, for work that is put on `stream` from now on. That stream counts as
  // one that uses it.
  absl::StatusOr<std::shared_ptr<Storage>> Allocate(GpuStream stream,
                                                    size_t num_bytes);

  // Memory of the host, "cpu:0", uninitialised, which devices copy at full
  // speed. No stream uses it.
  absl::StatusOr<std::shared_ptr<Storage>> AllocatePinned(size_t num_bytes);

  // Memory of a GPU that is handed over. `deleter` is called once when nobody
  // has the storage any more and the streams that used it are done; on the
  // thread that lets go of it, or that calls a function of this object or lets
  // go of another storage later. It must neither block nor throw.
  std::shared_ptr<Storage> Adopt(int device, void* data, size_t num_bytes,
                                 absl::AnyInvocable<void(void* data)> deleter);

  // Calls the deleters that are due. To be called now and then, so that memory
  // of others does not lie about when there is nothing else to do. Returns
  // whether some are not due yet.
  bool Poll();

  // Frees what nobody uses. May wait for the devices.
  void Trim();

  struct Stats {
    int64_t used_bytes = 0;    // of storages that live
    int64_t cached_bytes = 0;  // kept, and used by no storage
    int64_t hits = 0;          // allocations from what was kept
    int64_t misses = 0;        // allocations of fresh blocks
  };
  // Zeros for a device that does not exist.
  Stats stats(int device) const;
  Stats pinned_stats() const;

 private:
  class Heap;
  class BlockStorage;
  class AdoptedStorage;
  class Pool;
  // Shared with the storages, which may outlive this object.
  const std::shared_ptr<Heap> heap_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_GPU_MEMORY_H_
