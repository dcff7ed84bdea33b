#include "agent/device/gpu_memory_heap.h"

#include <algorithm>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

// The alignment of CUDA's allocations, and the least that a block has.
constexpr size_t kSmallestBlock = 512;

// So many blocks that streams still use are looked at for one that none does.
constexpr size_t kMaxLooks = 4;

// Drops the uses that are over. So is work that failed, on a lost device too.
void DropDone(GpuStreams& streams, std::vector<BlockUse>& uses) {
  std::erase_if(uses, [&](const BlockUse& use) {
    if (!streams.driver().IsDone(use.event).value_or(true)) return false;
    streams.Release(use.event);
    return true;
  });
}

// Blocks until the uses are over.
void AwaitUses(GpuStreams& streams, std::vector<BlockUse>& uses) {
  for (const BlockUse& use : uses) {
    streams.driver().Synchronize(use.event).IgnoreError();
    streams.Release(use.event);
  }
  uses.clear();
}

// Leaves an event behind what is on `users` now. Where that fails it waits for
// the stream. `uses` must have room for them.
void NoteUses(GpuStreams& streams, const std::vector<GpuStream>& users,
              std::vector<BlockUse>& uses) {
  for (const GpuStream& stream : users) {
    if (const auto event = streams.Record(stream); event.ok()) {
      uses.push_back({stream, *event});
    } else {
      streams.driver().Synchronize(stream).IgnoreError();
    }
  }
}

}  // namespace

GpuMemory::Pool::Pool(Runtime& runtime, GpuStreams& streams, int device,
                      size_t max_bytes)
    : streams_(streams),
      device_(device),
      cache_(runtime, "GpuMemory", max_bytes,
             [this](Block& block) { Free(block); }) {}

absl::StatusOr<Block> GpuMemory::Pool::Take(size_t num_bytes,
                                            const GpuStream* stream) {
  if (num_bytes > PTRDIFF_MAX / 2) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot allocate ", num_bytes, " bytes"));
  }
  num_bytes = std::max(num_bytes, kSmallestBlock);
  Block kept;
  std::vector<Block> busy;
  while (kept.memory == nullptr && busy.size() < kMaxLooks) {
    kept = cache_.Take(num_bytes);
    if (kept.memory == nullptr) break;
    DropDone(streams_, kept.uses);
    // What the stream itself did is over when it comes to its next work.
    const bool is_free = std::all_of(
        kept.uses.begin(), kept.uses.end(), [&](const BlockUse& use) {
          return stream != nullptr && use.stream == *stream;
        });
    if (!is_free) busy.push_back(std::exchange(kept, {}));
  }
  absl::StatusOr<Block> block = std::move(kept);
  cache_.Count(/*is_hit=*/block->memory != nullptr);
  if (block->memory == nullptr) {
    block = Fresh(num_bytes);
    if (absl::IsResourceExhausted(block.status())) {
      if (stream != nullptr && !busy.empty()) {
        block = std::move(busy.front());
        busy.erase(busy.begin());
      } else {
        for (Block& other : busy) cache_.Return(std::move(other));
        busy.clear();
        cache_.Drop(0);
        block = Fresh(num_bytes);
      }
    }
  }
  // In reverse, so that the oldest is in front again.
  for (; !busy.empty(); busy.pop_back()) cache_.PutBack(std::move(busy.back()));
  if (!block.ok()) return block;
  for (const BlockUse& use : block->uses) {
    if (use.stream == *stream) continue;
    absl::Status status = streams_.driver().Wait(*stream, use.event);
    if (!status.ok()) {
      cache_.Return(*std::move(block));
      return status;
    }
  }
  for (const BlockUse& use : block->uses) streams_.Release(use.event);
  block->uses.clear();
  used_bytes_ += static_cast<int64_t>(block->num_bytes);
  return block;
}

absl::StatusOr<Block> GpuMemory::Pool::Fresh(size_t num_bytes) {
  Block block;
  block.num_bytes = RoundUpBlock(num_bytes);
  const absl::StatusOr<void*> memory =
      device_ == kPinned ? streams_.driver().AllocatePinned(block.num_bytes)
                         : streams_.driver().Allocate(device_, block.num_bytes);
  if (!memory.ok()) return memory.status();
  block.memory = *memory;
  return block;
}

void GpuMemory::Pool::Free(Block& block) const {
  AwaitUses(streams_, block.uses);
  if (device_ == kPinned) {
    streams_.driver().FreePinned(block.memory);
  } else {
    streams_.driver().Free(device_, block.memory);
  }
}

void GpuMemory::Pool::Return(Block block, const std::vector<GpuStream>& users) {
  used_bytes_ -= static_cast<int64_t>(block.num_bytes);
  NoteUses(streams_, users, block.uses);
  cache_.Return(std::move(block));
}

GpuMemory::Stats GpuMemory::Pool::stats() {
  const BlockCache::Stats cache = cache_.stats();
  return {used_bytes_, cache.cached_bytes, cache.hits, cache.misses};
}

GpuMemory::Heap::Heap(Runtime& runtime, std::shared_ptr<GpuStreams> streams,
                      const Options& options)
    : runtime_(runtime),
      streams_(std::move(streams)),
      pinned_(runtime, *streams_, Pool::kPinned,
              options.max_cached_pinned_bytes),
      mutex_(runtime, "GpuMemory deletions") {
  for (int i = 0; i < streams_->driver().device_count(); ++i) {
    devices_.emplace_back(runtime, *streams_, i,
                          options.max_cached_bytes_per_device);
  }
}

GpuMemory::Heap::~Heap() {
  std::list<Deletion> deletions;
  {
    MutexLock lock(mutex_);
    deletions.swap(deletions_);
  }
  for (Deletion& deletion : deletions) {
    AwaitUses(*streams_, deletion.uses);
    deletion.deleter(deletion.data);
  }
}

GpuMemory::Pool* GpuMemory::Heap::pool(int device) {
  return streams_->Check(device).ok() ? &devices_[device] : nullptr;
}

void GpuMemory::Heap::Trim() {
  for (Pool& pool : devices_) pool.Trim();
  pinned_.Trim();
}

void GpuMemory::Heap::Delete(std::list<Deletion> deletion,
                             const std::vector<GpuStream>& users) {
  for (Deletion& one : deletion) NoteUses(*streams_, users, one.uses);
  {
    MutexLock lock(mutex_);
    deletions_.splice(deletions_.end(), deletion);
  }
  Poll();
}

bool GpuMemory::Heap::Poll() {
  std::list<Deletion> looked_at;
  {
    MutexLock lock(mutex_);
    looked_at.swap(deletions_);
  }
  std::list<Deletion> due;
  for (auto i = looked_at.begin(); i != looked_at.end();) {
    const auto deletion = i++;
    DropDone(*streams_, deletion->uses);
    if (deletion->uses.empty()) due.splice(due.end(), looked_at, deletion);
  }
  const bool some_are_left = !looked_at.empty();
  if (some_are_left) {
    MutexLock lock(mutex_);
    deletions_.splice(deletions_.begin(), looked_at);
  }
  for (Deletion& deletion : due) deletion.deleter(deletion.data);
  return some_are_left;
}

}  // namespace reprise
