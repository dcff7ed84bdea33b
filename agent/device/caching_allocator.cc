#include "agent/device/caching_allocator.h"

#include <new>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

constexpr auto kAlignment = std::align_val_t{kCpuAlignment};

void Free(const Block& block) { ::operator delete(block.memory, kAlignment); }

}  // namespace

class CachingAllocator::CachedStorage final : public Storage {
 public:
  CachedStorage(std::shared_ptr<BlockCache> cache, const Block& block,
                size_t num_bytes)
      : cache_(std::move(cache)), block_(block), num_bytes_(num_bytes) {}
  ~CachedStorage() override { cache_->Return(block_); }

  const Device& device() const override { return CpuDevice(); }
  void* data() override { return block_.memory; }
  size_t num_bytes() const override { return num_bytes_; }

 private:
  const std::shared_ptr<BlockCache> cache_;
  const Block block_;
  const size_t num_bytes_;
};

CachingAllocator::CachingAllocator(Runtime& runtime, size_t max_cached_bytes)
    : cache_(std::make_shared<BlockCache>(runtime, "CachingAllocator",
                                          max_cached_bytes, Free)) {}

CachingAllocator::~CachingAllocator() = default;

absl::StatusOr<std::shared_ptr<Storage>> CachingAllocator::Allocate(
    size_t num_bytes) {
  // No object is larger than PTRDIFF_MAX, whatever the C library would say.
  if (num_bytes < kSmallest || num_bytes > PTRDIFF_MAX / 2) {
    return AllocateCpu(num_bytes);
  }
  Block block = cache_->Take(num_bytes);
  cache_->Count(/*is_hit=*/block.memory != nullptr);
  if (block.memory == nullptr) {
    block.num_bytes = RoundUpBlock(num_bytes);
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
