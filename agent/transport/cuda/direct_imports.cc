#include "agent/transport/cuda/direct_imports.h"

#include "absl/status/status.h"

namespace reprise {

absl::StatusOr<const char*> OpenedMemory::Find(const DirectOffer& offer) const {
  // A copy from beyond its end would make the GPU useless to this process.
  absl::StatusOr<GpuAllocation> allocation = driver_.FindAllocation(base_);
  if (!allocation.ok()) return allocation.status();
  const size_t num_bytes = allocation->num_bytes;
  if (offer.length > num_bytes || offer.offset > num_bytes - offer.length) {
    return absl::InvalidArgumentError(
        "the peer offers what lies beyond the end of its allocation");
  }
  return static_cast<const char*>(base_) + offer.offset;
}

absl::StatusOr<std::shared_ptr<const OpenedMemory>> DirectImports::MemoryOf(
    const DirectOffer& offer, int device) {
  const std::string handle(offer.memory_handle, kGpuHandleBytes);
  Memory& memory = memories_[{offer.allocation_index, device}];
  if (memory.opened != nullptr && memory.allocation == offer.allocation &&
      memory.handle == handle) {
    return memory.opened;
  }
  // The one before must be closed first, if it is of the same allocation.
  memory = {};
  absl::StatusOr<void*> base = driver_.OpenMemory(device, handle);
  if (!base.ok()) return base.status();
  memory = {offer.allocation, handle,
            std::make_shared<const OpenedMemory>(driver_, device, *base)};
  return memory.opened;
}

absl::StatusOr<GpuEvent> DirectImports::EventOf(const DirectOffer& offer,
                                                int device) {
  const std::string handle(offer.event_handle, kGpuHandleBytes);
  const std::pair<uint32_t, int> key(offer.ticket, device);
  if (const auto it = events_.find(key); it != events_.end()) {
    if (it->second.handle == handle) return it->second.event;
    driver_.DestroyEvent(it->second.event);
    events_.erase(it);
  }
  absl::StatusOr<GpuEvent> event = driver_.OpenEvent(device, handle);
  if (event.ok()) events_[key] = {handle, *event};
  return event;
}

void DirectImports::Clear() {
  memories_.clear();
  for (const auto& [key, event] : events_) driver_.DestroyEvent(event.event);
  events_.clear();
}

}  // namespace reprise
