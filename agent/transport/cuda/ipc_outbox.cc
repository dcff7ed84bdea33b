#include "agent/transport/cuda/ipc_outbox.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise {

absl::StatusOr<std::shared_ptr<IpcOutbox>> IpcOutbox::Make(
    const GpuChannelEnvironment& environment, int device) {
  auto outbox = std::make_shared<IpcOutbox>(*environment.driver, device);
  absl::Status status = outbox->Fill(environment);
  if (!status.ok()) return status;
  return outbox;
}

absl::Status IpcOutbox::Fill(const GpuChannelEnvironment& environment) {
  absl::StatusOr<void*> memory =
      driver_.Allocate(device_, kNumSlots * kSlotBytes);
  if (!memory.ok()) return memory.status();
  memory_ = *memory;
  absl::StatusOr<std::string> handle = driver_.ExportMemory(device_, memory_);
  if (!handle.ok()) return handle.status();
  info_.memory_handle = *std::move(handle);
  for (GpuEvent& event : events_) {
    absl::StatusOr<GpuEvent> made =
        driver_.CreateEvent(device_, /*is_shared=*/true);
    if (!made.ok()) return made.status();
    event = *made;
    ++num_events_;
    absl::StatusOr<std::string> exported = driver_.ExportEvent(event);
    if (!exported.ok()) return exported.status();
    info_.event_handles.push_back(*std::move(exported));
  }
  const ProcessIdentity& process = environment.process;
  info_.process = absl::StrCat(
      process.pid_namespace, "_", process.pid, "_",
      absl::Hex(environment.runtime->RandomBits(), absl::kZeroPad16));
  return absl::OkStatus();
}

IpcOutbox::~IpcOutbox() {
  for (int i = 0; i < num_events_; ++i) driver_.DestroyEvent(events_[i]);
  if (memory_ != nullptr) driver_.Free(device_, memory_);
}

bool IpcOutbox::IsRead() const {
  for (int i = 0; i < num_events_; ++i) {
    // Nothing reads on a device that is lost.
    if (was_used_[i] && !driver_.IsDone(events_[i]).value_or(true)) {
      return false;
    }
  }
  return true;
}

absl::StatusOr<std::shared_ptr<IpcOutbox>> IpcOutboxes::Of(int device) {
  std::shared_ptr<IpcOutbox>& current = current_[device];
  if (current != nullptr && current->slots().has_retired()) {
    auto& retired = retired_[device];
    retired.push_back(std::move(current));
    if (retired.size() > IpcOutbox::kMaxRetired) {
      GiveUp(retired.front());
      retired.pop_front();
    }
  }
  if (current == nullptr) {
    absl::StatusOr<std::shared_ptr<IpcOutbox>> made =
        IpcOutbox::Make(environment_, device);
    if (!made.ok()) return made.status();
    current = *std::move(made);
  }
  return current;
}

void IpcOutboxes::Clear() {
  for (const auto& [device, outbox] : current_) {
    if (outbox != nullptr) GiveUp(outbox);
  }
  for (const auto& [device, outboxes] : retired_) {
    for (const auto& outbox : outboxes) GiveUp(outbox);
  }
  current_.clear();
  retired_.clear();
}

void IpcOutboxes::GiveUp(const std::shared_ptr<IpcOutbox>& outbox) {
  if (outbox->IsRead()) return;
  Runtime& runtime = *environment_.runtime;
  callbacks_.Poll([outbox, &runtime, deadline = runtime.Now() + kLongestHold] {
    return outbox->IsRead() || runtime.Now() >= deadline;
  });
}

}  // namespace reprise
