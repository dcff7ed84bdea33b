#include "agent/transport/cuda/ipc_inbox.h"

#include <algorithm>

namespace reprise {
namespace {

bool IsWellFormed(const IpcOutboxInfo& info) {
  return info.memory_handle.size() == kGpuHandleBytes &&
         info.event_handles.size() == IpcOutbox::kNumSlots &&
         std::all_of(info.event_handles.begin(), info.event_handles.end(),
                     [](const std::string& handle) {
                       return handle.size() == kGpuHandleBytes;
                     });
}

}  // namespace

absl::StatusOr<std::unique_ptr<IpcInbox>> IpcInbox::Open(
    GpuDriver& driver, int device, const IpcOutboxInfo& info) {
  auto inbox = std::make_unique<IpcInbox>(driver, device);
  absl::Status status = inbox->Fill(info);
  if (!status.ok()) return status;
  return inbox;
}

absl::Status IpcInbox::Fill(const IpcOutboxInfo& info) {
  absl::StatusOr<void*> memory =
      driver_.OpenMemory(device_, info.memory_handle);
  if (!memory.ok()) return memory.status();
  memory_ = *memory;
  // A copy from beyond its end would make the GPU useless to this process.
  absl::StatusOr<GpuAllocation> allocation = driver_.FindAllocation(memory_);
  if (!allocation.ok()) return allocation.status();
  if (allocation->num_bytes < IpcOutbox::kNumSlots * IpcOutbox::kSlotBytes) {
    return absl::InvalidArgumentError(
        "the peer's staging memory is smaller than its slots");
  }
  for (GpuEvent& event : events_) {
    absl::StatusOr<GpuEvent> opened =
        driver_.OpenEvent(device_, info.event_handles[num_events_]);
    if (!opened.ok()) return opened.status();
    event = *opened;
    ++num_events_;
  }
  return absl::OkStatus();
}

IpcInbox::~IpcInbox() {
  for (int i = 0; i < num_events_; ++i) driver_.DestroyEvent(events_[i]);
  if (memory_ != nullptr) driver_.CloseMemory(device_, memory_);
}

absl::StatusOr<const IpcInbox*> IpcInboxes::Find(
    const IpcDescriptor& descriptor, int device) {
  if (descriptor.device < 0 || descriptor.device >= kMaxDevices ||
      descriptor.slot >= IpcOutbox::kNumSlots) {
    return absl::InvalidArgumentError(
        "the peer names a device or a slot that it cannot have");
  }
  const bool is_first = !told_.contains(descriptor.device);
  if (is_first != descriptor.outbox.has_value() ||
      (is_first && !IsWellFormed(*descriptor.outbox))) {
    return absl::InvalidArgumentError(
        "the peer must describe its staging memory once, with the first chunk "
        "from a device, and completely");
  }
  if (is_first) told_[descriptor.device] = *descriptor.outbox;
  std::unique_ptr<IpcInbox>& inbox = opened_[{descriptor.device, device}];
  if (inbox == nullptr) {
    absl::StatusOr<std::unique_ptr<IpcInbox>> opened =
        IpcInbox::Open(driver_, device, told_[descriptor.device]);
    if (!opened.ok()) return opened.status();
    inbox = *std::move(opened);
  }
  return inbox.get();
}

}  // namespace reprise
