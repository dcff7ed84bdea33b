// The memory of the simulated GPUs of a world, as an allocator of the driver
// keeps it.
//
// It is memory of this process at real addresses, so that offsets into it work,
// and all simulated processes see it at the same address. Freed memory is kept
// for a while: an address of it is then known to be stale. Not thread-safe.

#ifndef REPRISE_SIM_DEVICE_GPU_MEMORY_H_
#define REPRISE_SIM_DEVICE_GPU_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/device/driver.h"
#include "sim/device/vector_clock.h"
#include "sim/world/world.h"

namespace reprise {

// A GPU of a simulated host.
struct PhysicalGpu {
  int host = 0;
  GpuProperties properties;
  size_t used_bytes = 0;
};

// An allocation on a GPU, or a range of the host's memory that the driver knows
// because it is pinned or registered.
struct SimGpuMemory {
  struct Use {
    uint64_t epoch = 0;
    VectorClock clock;
    std::shared_ptr<const std::string> what;
  };

  uint64_t id = 0;
  const Node* owner = nullptr;
  PhysicalGpu* gpu = nullptr;  // null for memory of the host
  int device = 0;              // the GPU, as its owner counts
  char* base = nullptr;
  size_t num_bytes = 0;
  std::string name;       // "memory 3 of w0/gpu1"
  bool is_freed = false;  // by its owner
  bool is_gone = false;   // with its owner, which crashed
  int num_open = 0;       // other processes that have it open
  std::string handle;     // empty: it was never exported
  // The last work of each stream that uses it, by the stream's timeline.
  std::map<size_t, Use> uses;
  std::unique_ptr<char[]> storage;  // null for registered memory
  // Of memory on a GPU, the pages that have defined bytes.
  std::vector<bool> filled;

  // Gives the range defined bytes, unless it has them. To be called before the
  // bytes of memory on a GPU are used: to fill all of a large allocation at
  // once would cost more than the run.
  void Fill(const char* address, size_t range_bytes);

  bool Contains(const void* address) const {
    const auto at = reinterpret_cast<uintptr_t>(address);
    const auto begin = reinterpret_cast<uintptr_t>(base);
    return at >= begin && at - begin < num_bytes;
  }
};

class SimGpuMemories {
 public:
  // Memory on `gpu` of `num_bytes` > 0, or null if the GPU has not that much
  // left. `may_reuse`: it may be at the address of memory of the same size that
  // was freed, with the bytes that were left in it.
  std::shared_ptr<SimGpuMemory> Allocate(PhysicalGpu& gpu, const Node& owner,
                                         int device, size_t num_bytes,
                                         bool may_reuse);
  // Pinned memory of the host.
  std::shared_ptr<SimGpuMemory> AllocatePinned(const Node& owner,
                                               size_t num_bytes);
  void Free(const std::shared_ptr<SimGpuMemory>& memory);

  // What was allocated here and contains the address, or contained it before it
  // was freed; null for any other address.
  std::shared_ptr<SimGpuMemory> Find(const void* address) const;

  // The memory of the process that is not freed, in the order of its ids.
  std::vector<std::shared_ptr<SimGpuMemory>> OwnedBy(const Node& owner) const;

  uint64_t NextId() { return ++last_id_; }

 private:
  std::map<uintptr_t, std::shared_ptr<SimGpuMemory>> by_base_;
  std::deque<std::shared_ptr<SimGpuMemory>> freed_;  // the oldest first
  size_t freed_bytes_ = 0;
  uint64_t last_id_ = 0;
};

// The entry of `ranges`, which has ranges by their begin, in which `address`
// lies; end() if there is none.
template <typename Ranges>
auto FindRange(Ranges& ranges, const void* address) {
  auto it = ranges.upper_bound(reinterpret_cast<uintptr_t>(address));
  if (it == ranges.begin()) return ranges.end();
  --it;
  return it->second->Contains(address) ? it : ranges.end();
}

}  // namespace reprise

#endif  // REPRISE_SIM_DEVICE_GPU_MEMORY_H_
