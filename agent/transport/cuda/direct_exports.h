// What a sender of the channel cuda_direct has told its peer of: allocations,
// events, and the staging memory of its context.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_EXPORTS_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_EXPORTS_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/driver.h"
#include "agent/transport/cuda/direct_claims.h"
#include "agent/transport/cuda/slot_pool.h"

namespace reprise {

// The allocations of one channel, by an index under which the peer keeps them
// open. An index is given to another allocation only when no offer needs it, so
// there is room as long as there are fewer offers than allocations here.
class ExportedMemory {
 public:
  static constexpr uint32_t kMaxAllocations = 64;

  explicit ExportedMemory(GpuDriver& driver) : driver_(driver) {}

  struct Entry {
    GpuAllocation allocation;
    std::string handle;  // empty: not in use
    uint64_t last_use = 0;
    int num_offers = 0;
  };

  // Of an allocation that may be exported.
  absl::StatusOr<uint32_t> IndexOf(const GpuAllocation& allocation);
  Entry& at(uint32_t index) { return entries_[index]; }

 private:
  std::optional<uint32_t> FindRoom(const GpuAllocation& allocation) const;

  GpuDriver& driver_;
  std::array<Entry, kMaxAllocations> entries_;
  uint64_t num_uses_ = 0;
};

// The events of one channel. Each has the number of a ticket, and belongs to
// one offer until that is over.
class ExportedEvents {
 public:
  explicit ExportedEvents(GpuDriver& driver) : driver_(driver) {}
  ExportedEvents(const ExportedEvents&) = delete;
  ExportedEvents& operator=(const ExportedEvents&) = delete;
  ~ExportedEvents();

  struct Entry {
    GpuEvent event;
    std::string handle;  // empty: there is none yet
    bool is_in_use = false;
  };

  absl::StatusOr<uint32_t> Take(int device);
  void Give(uint32_t ticket) { entries_[ticket].is_in_use = false; }
  const Entry& at(uint32_t ticket) const { return entries_[ticket]; }

 private:
  GpuDriver& driver_;
  std::array<Entry, DirectClaims::kNumTickets> entries_;
};

// The staging memory of a context, for what cannot be exported itself.
class DirectStaging {
 public:
  struct Area {
    GpuAllocation allocation;
    SlotPool slots;
    // The copy into a slot. A slot may be given back before its copy is done.
    std::vector<GpuEvent> filled;
    std::vector<bool> was_filled;
  };

  explicit DirectStaging(GpuDriver& driver) : driver_(driver) {}
  DirectStaging(const DirectStaging&) = delete;
  DirectStaging& operator=(const DirectStaging&) = delete;
  ~DirectStaging();

  absl::StatusOr<Area*> Of(int device);

 private:
  absl::Status Fill(int device, Area& area);
  void Free(int device, const Area& area);

  GpuDriver& driver_;
  std::map<int, Area> areas_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_EXPORTS_H_
