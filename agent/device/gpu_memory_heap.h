// What a `GpuMemory` and its storages share. Only for its sources.

#ifndef REPRISE_AGENT_DEVICE_GPU_MEMORY_HEAP_H_
#define REPRISE_AGENT_DEVICE_GPU_MEMORY_HEAP_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "agent/device/block_cache.h"
#include "agent/device/gpu_memory.h"
#include "agent/device/gpu_streams.h"
#include "agent/runtime/mutex.h"

namespace reprise {

// Blocks of one kind: those of one device, or pinned ones.
class GpuMemory::Pool {
 public:
  static constexpr int kPinned = -1;

  Pool(Runtime& runtime, GpuStreams& streams, int device, size_t max_bytes);

  // A block of at least `num_bytes` for work on `stream`, which a pinned one
  // has not.
  absl::StatusOr<Block> Take(size_t num_bytes, const GpuStream* stream);
  // Gives it back. It is used again when the work that is on `users` now is
  // done, for which `block.uses` must have room.
  void Return(Block block, const std::vector<GpuStream>& users);
  void Trim() { cache_.Drop(0); }
  Stats stats();

 private:
  absl::StatusOr<Block> Fresh(size_t num_bytes);
  void Free(Block& block) const;

  GpuStreams& streams_;
  const int device_;
  std::atomic<int64_t> used_bytes_ = 0;
  BlockCache cache_;
};

class GpuMemory::Heap {
 public:
  Heap(Runtime& runtime, std::shared_ptr<GpuStreams> streams,
       const Options& options);
  // Waits for the uses of what is to be deleted.
  ~Heap();

  Runtime& runtime() { return runtime_; }
  GpuStreams& streams() { return *streams_; }
  Pool* pool(int device);
  Pool& pinned() { return pinned_; }
  void Trim();

  // Memory of others that streams may still use.
  struct Deletion {
    absl::AnyInvocable<void(void*)> deleter;
    void* data = nullptr;
    std::vector<BlockUse> uses;
  };
  // Calls the deleters when what is on `users` now is done: at once, or in a
  // later `Poll`. Each `uses` must have room for them.
  void Delete(std::list<Deletion> deletion,
              const std::vector<GpuStream>& users);
  bool Poll();

 private:
  Runtime& runtime_;
  const std::shared_ptr<GpuStreams> streams_;
  std::deque<Pool> devices_;
  Pool pinned_;
  Mutex mutex_;
  std::list<Deletion> deletions_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_GPU_MEMORY_HEAP_H_
