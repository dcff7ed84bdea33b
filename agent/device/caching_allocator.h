// CPU memory for what is received, and an allocator that keeps it for reuse.
//
// Fresh memory is slow: the kernel clears and maps it page by page, 256 times a
// MiB, which costs more than carrying the bytes. So large blocks that nobody
// uses any more are kept, up to a bound, and handed out again.

#ifndef REPRISE_AGENT_DEVICE_CACHING_ALLOCATOR_H_
#define REPRISE_AGENT_DEVICE_CACHING_ALLOCATOR_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "agent/device/block_cache.h"
#include "agent/device/device.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Thread-safe. Called on threads of TensorPipe: must neither block nor throw.
class CpuAllocator {
 public:
  virtual ~CpuAllocator() = default;
  // Uninitialised memory, aligned to `kCpuAlignment`. RESOURCE_EXHAUSTED when
  // there is none.
  virtual absl::StatusOr<std::shared_ptr<Storage>> Allocate(
      size_t num_bytes) = 0;
};

// Blocks of at least `kSmallest` bytes go back to the allocator when their
// storage dies, on whatever thread, which may be after the allocator itself:
// then they are freed. Smaller ones are left to the C library. Sizes are
// rounded up by at most an eighth.
class CachingAllocator final : public CpuAllocator {
 public:
  static constexpr size_t kSmallest = size_t{256} << 10;

  // Keeps at most `max_cached_bytes` that nobody uses, the latest ones. The
  // runtime must outlive the storages.
  CachingAllocator(Runtime& runtime, size_t max_cached_bytes);
  ~CachingAllocator() override;

  absl::StatusOr<std::shared_ptr<Storage>> Allocate(size_t num_bytes) override;

  // Frees what nobody uses.
  void Trim();

  using Stats = BlockCache::Stats;
  Stats stats() const;

 private:
  class CachedStorage;
  // Shared with the storages, which may outlive this object.
  const std::shared_ptr<BlockCache> cache_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_CACHING_ALLOCATOR_H_
