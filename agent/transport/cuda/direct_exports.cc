#include "agent/transport/cuda/direct_exports.h"

#include <utility>

#include "agent/transport/cuda/direct.h"
#include "agent/transport/cuda/wire.h"

namespace reprise {
namespace {

bool Overlap(const GpuAllocation& a, const GpuAllocation& b) {
  const auto a_begin = reinterpret_cast<uintptr_t>(a.base);
  const auto b_begin = reinterpret_cast<uintptr_t>(b.base);
  return a_begin < b_begin + b.num_bytes && b_begin < a_begin + a.num_bytes;
}

absl::Status CheckHandle(const std::string& handle) {
  if (handle.size() == kGpuHandleBytes) return absl::OkStatus();
  return absl::InternalError("the driver gives a handle of another size");
}

}  // namespace

absl::StatusOr<uint32_t> ExportedMemory::IndexOf(
    const GpuAllocation& allocation) {
  for (uint32_t i = 0; i < kMaxAllocations; ++i) {
    Entry& entry = entries_[i];
    if (entry.handle.empty() || entry.allocation.id != allocation.id) continue;
    entry.last_use = ++num_uses_;
    return i;
  }
  const std::optional<uint32_t> room = FindRoom(allocation);
  if (!room.has_value()) {
    return absl::ResourceExhaustedError("all exported allocations are in use");
  }
  absl::StatusOr<std::string> handle =
      driver_.ExportMemory(allocation.device, allocation.base);
  if (!handle.ok()) return handle.status();
  if (absl::Status status = CheckHandle(*handle); !status.ok()) return status;
  Entry& entry = entries_[*room];
  entry.allocation = allocation;
  entry.handle = *std::move(handle);
  entry.last_use = ++num_uses_;
  return *room;
}

std::optional<uint32_t> ExportedMemory::FindRoom(
    const GpuAllocation& allocation) const {
  std::optional<uint32_t> best;
  for (uint32_t i = 0; i < kMaxAllocations; ++i) {
    const Entry& entry = entries_[i];
    if (entry.num_offers > 0) continue;
    // What lay there before has been freed, so the peer should close it.
    if (!entry.handle.empty() && Overlap(entry.allocation, allocation)) {
      return i;
    }
    if (!best.has_value() || entry.last_use < entries_[*best].last_use) {
      best = i;
    }
  }
  return best;
}

absl::StatusOr<uint32_t> ExportedEvents::Take(int device) {
  std::optional<uint32_t> room;
  for (uint32_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (entry.is_in_use) continue;
    if (!entry.handle.empty() && entry.event.device == device) {
      entry.is_in_use = true;
      return i;
    }
    // One that is not made yet is better than another device's.
    if (!room.has_value() ||
        (entry.handle.empty() && !entries_[*room].handle.empty())) {
      room = i;
    }
  }
  if (!room.has_value()) {
    return absl::ResourceExhaustedError("all exported events are in use");
  }
  absl::StatusOr<GpuEvent> event =
      driver_.CreateEvent(device, /*is_shared=*/true);
  if (!event.ok()) return event.status();
  absl::StatusOr<std::string> handle = driver_.ExportEvent(*event);
  absl::Status status = handle.ok() ? CheckHandle(*handle) : handle.status();
  if (!status.ok()) {
    driver_.DestroyEvent(*event);
    return status;
  }
  Entry& entry = entries_[*room];
  if (!entry.handle.empty()) driver_.DestroyEvent(entry.event);
  entry = {*event, *std::move(handle), /*is_in_use=*/true};
  return *room;
}

ExportedEvents::~ExportedEvents() {
  for (const Entry& entry : entries_) {
    if (!entry.handle.empty()) driver_.DestroyEvent(entry.event);
  }
}

absl::StatusOr<DirectStaging::Area*> DirectStaging::Of(int device) {
  const auto it = areas_.find(device);
  if (it != areas_.end()) return &it->second;
  Area area = {{},
               SlotPool(kCudaDirectSlots),
               {},
               std::vector<bool>(kCudaDirectSlots, false)};
  if (absl::Status status = Fill(device, area); !status.ok()) {
    Free(device, area);
    return status;
  }
  return &areas_.emplace(device, std::move(area)).first->second;
}

absl::Status DirectStaging::Fill(int device, Area& area) {
  for (int i = 0; i < kCudaDirectSlots; ++i) {
    absl::StatusOr<GpuEvent> event =
        driver_.CreateEvent(device, /*is_shared=*/false);
    if (!event.ok()) return event.status();
    area.filled.push_back(*event);
  }
  absl::StatusOr<void*> memory =
      driver_.Allocate(device, kCudaDirectSlots * kCudaDirectSlotBytes);
  if (!memory.ok()) return memory.status();
  area.allocation.base = *memory;
  absl::StatusOr<GpuAllocation> allocation = driver_.FindAllocation(*memory);
  if (allocation.ok()) area.allocation = *allocation;
  return allocation.status();
}

void DirectStaging::Free(int device, const Area& area) {
  for (const GpuEvent event : area.filled) driver_.DestroyEvent(event);
  if (area.allocation.base != nullptr) {
    driver_.Free(device, area.allocation.base);
  }
}

DirectStaging::~DirectStaging() {
  for (const auto& [device, area] : areas_) Free(device, area);
}

}  // namespace reprise
