// Who wrote and who read each range of memory last, and whether an access is
// ordered after those before it.
//
// Accesses are noted in the order in which they are put on streams. Since an
// event can only be waited for after it was recorded, nothing that is put on a
// stream later can happen before what was put on one earlier. So an access is
// wrong exactly if its clock does not include an earlier access to the same
// bytes, at least one of the two being a write, whatever the times at which the
// two ran. Not thread-safe.

#ifndef REPRISE_SIM_DEVICE_ACCESS_LOG_H_
#define REPRISE_SIM_DEVICE_ACCESS_LOG_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sim/device/vector_clock.h"

namespace reprise {

// An access that a stream makes to memory.
struct SimGpuAccess {
  size_t timeline = 0;                      // of the stream
  uint64_t epoch = 0;                       // of the work in it
  std::shared_ptr<const std::string> what;  // "copy 3 of 64 bytes on stream x"
};

// Addresses are those of this process.
class AccessLog {
 public:
  struct Conflict {
    SimGpuAccess earlier;
    bool earlier_writes = false;
    uintptr_t address = 0;  // the first byte that both touch
  };

  // The first access to the range, by address, with which an access conflicts
  // that happens after everything in `clock`.
  std::optional<Conflict> Find(uintptr_t begin, size_t num_bytes, bool writes,
                               const VectorClock& clock) const;

  // Adds the access, whose clock is `clock`.
  void Add(uintptr_t begin, size_t num_bytes, bool writes,
           const SimGpuAccess& access, const VectorClock& clock);

  // The memory goes back to its allocator.
  void Forget(uintptr_t begin, size_t num_bytes);

  size_t num_ranges() const { return ranges_.size(); }

 private:
  struct Range {
    uintptr_t end = 0;
    std::optional<SimGpuAccess> write;
    // At most one of each timeline.
    std::vector<SimGpuAccess> reads;
  };
  // Makes a range begin at `address` if one contains it.
  void SplitAt(uintptr_t address);

  std::map<uintptr_t, Range> ranges_;  // by their begin; disjoint
};

}  // namespace reprise

#endif  // REPRISE_SIM_DEVICE_ACCESS_LOG_H_
