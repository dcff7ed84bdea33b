// Blocks of memory that nobody uses, kept for reuse up to a bound. What
// `CachingAllocator` and `GpuMemory` have in common.

#ifndef REPRISE_AGENT_DEVICE_BLOCK_CACHE_H_
#define REPRISE_AGENT_DEVICE_BLOCK_CACHE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "agent/device/driver.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Work of a stream that may still use a block.
struct BlockUse {
  GpuStream stream;
  GpuEvent event;  // after the work
};

struct Block {
  void* memory = nullptr;
  size_t num_bytes = 0;
  std::vector<BlockUse> uses;  // none for memory that no stream has used
};

// Rounds up to a multiple of an eighth of the power of two below `num_bytes`,
// which must be at least 8.
size_t RoundUpBlock(size_t num_bytes);

// Thread-safe. Neither blocks, unless `free` does, nor throws.
class BlockCache {
 public:
  // Keeps at most `max_bytes`, the latest blocks. `free` is called without a
  // lock, on whatever thread. `mutex_name`: as in mutex.h.
  BlockCache(Runtime& runtime, const char* mutex_name, size_t max_bytes,
             absl::AnyInvocable<void(Block& block) const> free);
  // Frees all blocks.
  ~BlockCache();

  // Returns a block of `num_bytes` to 5/4 of that, of the smallest size and of
  // that the oldest, or one without memory if there is none.
  Block Take(size_t num_bytes);

  // Keeps it, as the latest. The oldest blocks beyond the bound are freed.
  void Return(Block block);
  // The same for one that was just taken, and not used: it is the oldest again.
  void PutBack(Block block);

  // Frees the oldest blocks until at most `max_bytes` are kept.
  void Drop(size_t max_bytes);

  // Counts an allocation, from what was kept or of a fresh block.
  void Count(bool is_hit) { ++(is_hit ? hits_ : misses_); }

  struct Stats {
    int64_t cached_bytes = 0;  // kept, and used by nobody
    int64_t hits = 0;          // allocations from what was kept
    int64_t misses = 0;        // allocations of fresh blocks
  };
  Stats stats();

 private:
  void Keep(Block block, bool is_latest);

  const size_t max_bytes_;
  const absl::AnyInvocable<void(Block& block) const> free_;
  Mutex mutex_;
  std::list<Block> by_age_ ABSL_GUARDED_BY(mutex_);  // oldest first
  std::multimap<size_t, std::list<Block>::iterator> by_size_
      ABSL_GUARDED_BY(mutex_);
  size_t cached_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::atomic<int64_t> hits_ = 0;
  std::atomic<int64_t> misses_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_BLOCK_CACHE_H_
