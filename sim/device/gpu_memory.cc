#include "sim/device/gpu_memory.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

constexpr size_t kAlignment = 256;
constexpr size_t kKeepFreedBytes = size_t{16} << 20;
// What is in memory that was never written: no byte that a test expects.
constexpr int kFresh = 0xa5;

constexpr size_t kFillBytes = size_t{64} << 10;

uintptr_t KeyOf(const SimGpuMemory& memory) {
  return reinterpret_cast<uintptr_t>(memory.base);
}

void MakeStorage(SimGpuMemory& memory) {
  memory.storage.reset(new char[memory.num_bytes + kAlignment]);
  const auto raw = reinterpret_cast<uintptr_t>(memory.storage.get());
  memory.base = memory.storage.get() + (kAlignment - raw % kAlignment);
}

}  // namespace

void SimGpuMemory::Fill(const char* address, size_t range_bytes) {
  if (gpu == nullptr || range_bytes == 0) return;
  const auto offset = static_cast<size_t>(address - base);
  for (size_t page = offset / kFillBytes;
       page <= (offset + range_bytes - 1) / kFillBytes; ++page) {
    if (filled[page]) continue;
    filled[page] = true;
    const size_t begin = page * kFillBytes;
    std::memset(base + begin, kFresh, std::min(kFillBytes, num_bytes - begin));
  }
}

std::shared_ptr<SimGpuMemory> SimGpuMemories::Allocate(PhysicalGpu& gpu,
                                                       const Node& owner,
                                                       int device,
                                                       size_t num_bytes,
                                                       bool may_reuse) {
  if (num_bytes > gpu.properties.memory_bytes - gpu.used_bytes) return nullptr;
  gpu.used_bytes += num_bytes;
  auto memory = std::make_shared<SimGpuMemory>();
  memory->id = NextId();
  memory->owner = &owner;
  memory->gpu = &gpu;
  memory->device = device;
  memory->num_bytes = num_bytes;
  memory->name =
      absl::StrCat("memory ", memory->id, " of ", owner.label, "/gpu", device);
  const auto same = std::find_if(
      freed_.rbegin(), freed_.rend(), [&gpu, num_bytes](const auto& freed) {
        return freed->gpu == &gpu && freed->num_bytes == num_bytes;
      });
  if (may_reuse && same != freed_.rend()) {
    memory->base = (*same)->base;
    memory->storage = std::move((*same)->storage);
    memory->filled = std::move((*same)->filled);
    freed_bytes_ -= num_bytes;
    freed_.erase(std::next(same).base());
  } else {
    MakeStorage(*memory);
    memory->filled.resize((num_bytes - 1) / kFillBytes + 1, false);
  }
  by_base_[KeyOf(*memory)] = memory;
  return memory;
}

std::shared_ptr<SimGpuMemory> SimGpuMemories::AllocatePinned(const Node& owner,
                                                             size_t num_bytes) {
  auto memory = std::make_shared<SimGpuMemory>();
  memory->id = NextId();
  memory->owner = &owner;
  memory->num_bytes = num_bytes;
  memory->name =
      absl::StrCat("pinned memory ", memory->id, " of ", owner.label);
  MakeStorage(*memory);
  // Threads use it directly, so it cannot be filled when it is used. What is
  // larger is for channels, which read only what was copied there.
  std::memset(memory->base, kFresh, std::min(num_bytes, kFillBytes));
  by_base_[KeyOf(*memory)] = memory;
  return memory;
}

void SimGpuMemories::Free(const std::shared_ptr<SimGpuMemory>& memory) {
  memory->is_freed = true;
  if (memory->gpu != nullptr) memory->gpu->used_bytes -= memory->num_bytes;
  freed_.push_back(memory);
  freed_bytes_ += memory->num_bytes;
  while (freed_bytes_ > kKeepFreedBytes) {
    freed_bytes_ -= freed_.front()->num_bytes;
    by_base_.erase(KeyOf(*freed_.front()));
    // A handle or a peer may still refer to the object, but nothing uses it.
    freed_.front()->storage.reset();
    freed_.pop_front();
  }
}

std::shared_ptr<SimGpuMemory> SimGpuMemories::Find(const void* address) const {
  const auto it = FindRange(by_base_, address);
  return it == by_base_.end() ? nullptr : it->second;
}

std::vector<std::shared_ptr<SimGpuMemory>> SimGpuMemories::OwnedBy(
    const Node& owner) const {
  std::vector<std::shared_ptr<SimGpuMemory>> owned;
  for (const auto& [base, memory] : by_base_) {
    if (memory->owner == &owner && !memory->is_freed) owned.push_back(memory);
  }
  std::sort(owned.begin(), owned.end(),
            [](const auto& a, const auto& b) { return a->id < b->id; });
  return owned;
}

}  // namespace reprise
