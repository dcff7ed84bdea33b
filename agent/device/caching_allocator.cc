#include "agent/device/caching_allocator.h"

#include <bit>
#include <list>
#include <map>
#include <new>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/runtime/mutex.h"

namespace reprise {
namespace {

// A kept block is used for a request of at least 4/5 of its size.
constexpr size_t kFitNumerator = 4;
constexpr size_t kFitDenominator = 5;

constexpr auto kAlignment = std::align_val_t{kCpuAlignment};

struct Block {
  void* memory = nullptr;
  size_t num_bytes = 0;
};

void Free(const Block& block) { ::operator delete(block.memory, kAlignment); }

// Rounds up to a multiple of an eighth of the power of two below `num_bytes`.
size_t RoundUp(size_t num_bytes) {
  const size_t step = std::bit_floor(num_bytes) / 8;
  return (num_bytes + step - 1) / step * step;
}

}  // namespace

// Shared with the storages, which may outlive the allocator.
class CachingAllocator::Cache {
 public:
  Cache(Runtime& runtime, size_t max_bytes)
      : max_bytes_(max_bytes), mutex_(runtime, "CachingAllocator") {}
  ~Cache() { Drop(0); }

  // Returns a kept block that fits, or a block without memory if there is none.
  Block Take(size_t num_bytes) {
    MutexLock lock(mutex_);
    const auto found = by_size_.lower_bound(num_bytes);
    if (found == by_size_.end() ||
        num_bytes < found->first / kFitDenominator * kFitNumerator) {
      ++stats_.misses;
      return {};
    }
    const Block block = *found->second;
    by_age_.erase(found->second);
    by_size_.erase(found);
    stats_.cached_bytes -= static_cast<int64_t>(block.num_bytes);
    ++stats_.hits;
    return block;
  }

  void Return(const Block& block) {
    if (block.num_bytes > max_bytes_) return Free(block);
    try {
      std::list<Block> node{block};
      MutexLock lock(mutex_);
      by_size_.emplace(block.num_bytes, node.begin());
      by_age_.splice(by_age_.end(), node);
      stats_.cached_bytes += static_cast<int64_t>(block.num_bytes);
    } catch (const std::bad_alloc&) {
      // There is no memory for the bookkeeping.
      return Free(block);
    }
    Drop(max_bytes_);
  }

  // Frees the oldest blocks until at most `max_bytes` are kept.
  void Drop(size_t max_bytes) {
    std::list<Block> dropped;
    {
      MutexLock lock(mutex_);
      while (static_cast<size_t>(stats_.cached_bytes) > max_bytes) {
        const auto oldest = by_age_.begin();
        auto entry = by_size_.find(oldest->num_bytes);
        while (entry->second != oldest) ++entry;
        by_size_.erase(entry);
        stats_.cached_bytes -= static_cast<int64_t>(oldest->num_bytes);
        dropped.splice(dropped.end(), by_age_, oldest);
      }
    }
    for (const Block& block : dropped) Free(block);
  }

  Stats stats() {
    MutexLock lock(mutex_);
    return stats_;
  }

 private:
  const size_t max_bytes_;
  Mutex mutex_;
  std::list<Block> by_age_ ABSL_GUARDED_BY(mutex_);  // oldest first
  std::multimap<size_t, std::list<Block>::iterator> by_size_
      ABSL_GUARDED_BY(mutex_);
  Stats stats_ ABSL_GUARDED_BY(mutex_);
};

class CachingAllocator::CachedStorage final : public Storage {
 public:
  CachedStorage(std::shared_ptr<Cache> cache, Block block, size_t num_bytes)
      : cache_(std::move(cache)), block_(block), num_bytes_(num_bytes) {}
  ~CachedStorage() override { cache_->Return(block_); }

  const Device& device() const override { return CpuDevice(); }
  void* data() override { return block_.memory; }
  size_t num_bytes() const override { return num_bytes_; }

 private:
  const std::shared_ptr<Cache> cache_;
  const Block block_;
  const size_t num_bytes_;
};

CachingAllocator::CachingAllocator(Runtime& runtime, size_t max_cached_bytes)
    : cache_(std::make_shared<Cache>(runtime, max_cached_bytes)) {}

CachingAllocator::~CachingAllocator() = default;

absl::StatusOr<std::shared_ptr<Storage>> CachingAllocator::Allocate(
    size_t num_bytes) {
  // No object is larger than PTRDIFF_MAX, whatever the C library would say.
  if (num_bytes < kSmallest || num_bytes > PTRDIFF_MAX / 2) {
    return AllocateCpu(num_bytes);
  }
  Block block = cache_->Take(num_bytes);
  if (block.memory == nullptr) {
    block.num_bytes = RoundUp(num_bytes);
    block.memory = ::operator new(block.num_bytes, kAlignment, std::nothrow);
  }
  if (block.memory != nullptr) {
    try {
      return std::make_shared<CachedStorage>(cache_, block, num_bytes);
    } catch (const std::bad_alloc&) {
      Free(block);
    }
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("cannot allocate ", num_bytes, " bytes of CPU memory"));
}

void CachingAllocator::Trim() { cache_->Drop(0); }

CachingAllocator::Stats CachingAllocator::stats() const {
  return cache_->stats();
}

}  // namespace reprise
