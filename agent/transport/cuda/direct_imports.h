// What a receiver of the channel cuda_direct has opened of its peer's.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_IMPORTS_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_IMPORTS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "agent/device/driver.h"
#include "agent/transport/cuda/wire.h"

namespace reprise {

// An allocation of the peer's that is open. Whoever copies from it keeps it
// until the copy is done.
class OpenedMemory {
 public:
  OpenedMemory(GpuDriver& driver, int device, void* base)
      : driver_(driver), device_(device), base_(base) {}
  OpenedMemory(const OpenedMemory&) = delete;
  OpenedMemory& operator=(const OpenedMemory&) = delete;
  ~OpenedMemory() { driver_.CloseMemory(device_, base_); }

  // Where the offer lies, after a look that it lies within.
  absl::StatusOr<const char*> Find(const DirectOffer& offer) const;

 private:
  GpuDriver& driver_;
  const int device_;
  void* const base_;
};

// Those of one channel.
class DirectImports {
 public:
  explicit DirectImports(GpuDriver& driver) : driver_(driver) {}
  DirectImports(const DirectImports&) = delete;
  DirectImports& operator=(const DirectImports&) = delete;
  ~DirectImports() { Clear(); }

  // Open for `device` of ours; opened now, if need be. The offer's index and
  // ticket have been checked.
  absl::StatusOr<std::shared_ptr<const OpenedMemory>> MemoryOf(
      const DirectOffer& offer, int device);
  absl::StatusOr<GpuEvent> EventOf(const DirectOffer& offer, int device);
  void Clear();

 private:
  struct Memory {
    uint64_t allocation = 0;
    std::string handle;
    std::shared_ptr<const OpenedMemory> opened;
  };
  struct Event {
    std::string handle;
    GpuEvent event;
  };
  // By the peer's number, and the device of ours.
  std::map<std::pair<uint32_t, int>, Memory> memories_;
  std::map<std::pair<uint32_t, int>, Event> events_;
  GpuDriver& driver_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_IMPORTS_H_
