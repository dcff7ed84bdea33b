#include "agent/device/block_cache.h"

#include <bit>
#include <new>
#include <utility>

namespace reprise {
namespace {

// A kept block is used for a request of at least 4/5 of its size.
constexpr size_t kFitNumerator = 4;
constexpr size_t kFitDenominator = 5;

}  // namespace

size_t RoundUpBlock(size_t num_bytes) {
  const size_t step = std::bit_floor(num_bytes) / 8;
  return (num_bytes + step - 1) / step * step;
}

BlockCache::BlockCache(Runtime& runtime, const char* mutex_name,
                       size_t max_bytes,
                       absl::AnyInvocable<void(Block& block) const> free)
    : max_bytes_(max_bytes),
      free_(std::move(free)),
      mutex_(runtime, mutex_name) {}

BlockCache::~BlockCache() { Drop(0); }

Block BlockCache::Take(size_t num_bytes) {
  MutexLock lock(mutex_);
  const auto found = by_size_.lower_bound(num_bytes);
  if (found == by_size_.end() ||
      num_bytes < found->first / kFitDenominator * kFitNumerator) {
    return {};
  }
  Block block = std::move(*found->second);
  by_age_.erase(found->second);
  by_size_.erase(found);
  cached_bytes_ -= block.num_bytes;
  return block;
}

void BlockCache::Return(Block block) {
  Keep(std::move(block), /*is_latest=*/true);
}

void BlockCache::PutBack(Block block) {
  Keep(std::move(block), /*is_latest=*/false);
}

void BlockCache::Keep(Block block, bool is_latest) {
  if (block.num_bytes > max_bytes_) return free_(block);
  std::list<Block> node;
  try {
    node.emplace_back();
    node.front() = std::move(block);
    const size_t num_bytes = node.front().num_bytes;
    MutexLock lock(mutex_);
    // Among blocks of one size the order is that of their ages.
    by_size_.emplace_hint(is_latest ? by_size_.upper_bound(num_bytes)
                                    : by_size_.lower_bound(num_bytes),
                          num_bytes, node.begin());
    cached_bytes_ += num_bytes;
    by_age_.splice(is_latest ? by_age_.end() : by_age_.begin(), node);
  } catch (const std::bad_alloc&) {
    // There is no memory for the bookkeeping.
    return free_(node.empty() ? block : node.front());
  }
  Drop(max_bytes_);
}

void BlockCache::Drop(size_t max_bytes) {
  std::list<Block> dropped;
  {
    MutexLock lock(mutex_);
    while (cached_bytes_ > max_bytes) {
      const auto oldest = by_age_.begin();
      auto entry = by_size_.find(oldest->num_bytes);
      while (entry->second != oldest) ++entry;
      by_size_.erase(entry);
      cached_bytes_ -= oldest->num_bytes;
      dropped.splice(dropped.end(), by_age_, oldest);
    }
  }
  for (Block& block : dropped) free_(block);
}

BlockCache::Stats BlockCache::stats() {
  MutexLock lock(mutex_);
  return {static_cast<int64_t>(cached_bytes_), hits_, misses_};
}

}  // namespace reprise
