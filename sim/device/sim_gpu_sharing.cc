// What processes share through `SimGpuDriver`, and how one ends.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/device/sim_gpu_driver.h"
#include "sim/world/race_annotations.h"

namespace reprise {
namespace {

constexpr size_t kHandleBytes = 64;

uintptr_t KeyOf(const void* address) {
  return reinterpret_cast<uintptr_t>(address);
}

// `kind` tells handles of memory from those of events.
std::string MakeHandle(uint64_t kind, uint64_t id) {
  std::string handle(kHandleBytes, '\0');
  for (size_t i = 0; i < kHandleBytes; ++i) {
    handle[i] = static_cast<char>(Draw(kind, id, i));
  }
  return handle;
}

}  // namespace

absl::Status SimGpuDriver::CheckSharing(int device) {
  if (auto status = CheckDevice(device); !status.ok()) return status;
  if (gpus_.Strikes(gpus_.faults_[node_.rank].no_sharing_until_ns,
                    FaultKind::kGpuNoIpc)) {
    return absl::UnimplementedError(
        "gpu: this machine cannot share GPU memory between processes");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> SimGpuDriver::ExportMemory(int device, void* base) {
  const InSimulator in;
  Enter();
  if (auto status = CheckSharing(device); !status.ok()) return status;
  const auto memory = gpus_.memories_.Find(base);
  if (memory == nullptr || memory->owner != &node_ || memory->base != base ||
      memory->is_freed || memory->gpu == nullptr) {
    return absl::InternalError("gpu: this is no allocation's base");
  }
  if (!options().may_be_exported) {
    return absl::UnimplementedError("gpu: such memory cannot be exported");
  }
  if (memory->handle.empty()) {
    memory->handle = MakeHandle(1, memory->id);
    gpus_.exported_memory_[memory->handle] = memory;
  }
  return memory->handle;
}

absl::StatusOr<void*> SimGpuDriver::OpenMemory(int device,
                                               const std::string& handle) {
  const InSimulator in;
  Enter();
  Take(options().open_ns);
  if (auto status = CheckSharing(device); !status.ok()) return status;
  const auto found = gpus_.exported_memory_.find(handle);
  if (found == gpus_.exported_memory_.end() || found->second->owner == &node_ ||
      found->second->gpu->host != host_) {
    return absl::InvalidArgumentError("gpu: this is no handle of memory here");
  }
  const std::shared_ptr<SimGpuMemory>& memory = found->second;
  if (!memory->owner->alive) {
    return absl::InternalError(
        absl::StrCat("gpu: the process of ", memory->name, " is dead"));
  }
  if (memory->is_freed) {
    gpus_.Violated("gpu-handle",
                   absl::StrCat(gpus_.ThreadOf(node_), " opens ", memory->name,
                                " after its owner freed it"));
    return absl::InvalidArgumentError("gpu: the memory was freed");
  }
  if (std::find(devices_.begin(), devices_.end(), memory->gpu) ==
      devices_.end()) {
    return absl::UnimplementedError(
        "gpu: this process does not see the memory's device");
  }
  if (!CanReadPeer(device, memory->gpu->properties.uuid)) {
    return absl::UnimplementedError(absl::StrCat(
        "gpu: device ", device, " cannot read the memory's device"));
  }
  std::unique_ptr<Opened>& opened = opened_[KeyOf(memory->base)];
  if (opened == nullptr) opened = std::make_unique<Opened>();
  if (opened->memory != memory) {
    // Other memory at this address was freed and never closed here.
    opened->memory = memory;
    ++memory->num_open;
  }
  ++opened->counts[device];
  return memory->base;
}

void SimGpuDriver::CloseMemory(int device, void* base) {
  const InSimulator in;
  Enter();
  const auto found = opened_.find(KeyOf(base));
  if (found == opened_.end() || !found->second->counts.contains(device)) {
    gpus_.Violated("gpu-memory", absl::StrCat(gpus_.ThreadOf(node_), " closes ",
                                              gpus_.NameOf(KeyOf(base)),
                                              ", which it has not opened"));
    return;
  }
  std::map<int, int>& counts = found->second->counts;
  if (--counts[device] > 0) return;
  counts.erase(device);
  if (!counts.empty()) return;
  gpus_.CheckUnused(node_, "closes", *found->second->memory,
                    /*only_own=*/true);
  Close(*found->second->memory);
  opened_.erase(found);
}

void SimGpuDriver::Close(SimGpuMemory& memory) {
  // What a dead process exported is there as long as anybody has it open.
  if (--memory.num_open > 0 || memory.owner->alive || memory.is_freed) return;
  gpus_.log_.Forget(KeyOf(memory.base), memory.num_bytes);
  gpus_.memories_.Free(gpus_.memories_.Find(memory.base));
}

absl::StatusOr<std::string> SimGpuDriver::ExportEvent(GpuEvent event) {
  const InSimulator in;
  Enter();
  if (auto status = CheckSharing(event.device); !status.ok()) return status;
  auto found = EventOf(event);
  if (!found.ok()) return found.status();
  const std::shared_ptr<SimGpuEvent>& held = *found;
  if (!held->is_shared || held->owner != &node_) {
    return absl::InternalError(
        absl::StrCat("gpu: ", held->name, " cannot be exported"));
  }
  std::string handle = MakeHandle(2, held->id);
  gpus_.exported_events_[handle] = held;
  return handle;
}

absl::StatusOr<GpuEvent> SimGpuDriver::OpenEvent(int device,
                                                 const std::string& handle) {
  const InSimulator in;
  Enter();
  if (auto status = CheckSharing(device); !status.ok()) return status;
  const auto found = gpus_.exported_events_.find(handle);
  if (found == gpus_.exported_events_.end() || found->second->owner == &node_ ||
      found->second->host != host_) {
    return absl::InvalidArgumentError(
        "gpu: this is no handle of an event here");
  }
  const std::shared_ptr<SimGpuEvent>& event = found->second;
  if (!event->owner->alive) {
    return absl::InternalError(
        absl::StrCat("gpu: the process of ", event->name, " is dead"));
  }
  if (event->is_destroyed) {
    gpus_.Violated("gpu-handle",
                   absl::StrCat(gpus_.ThreadOf(node_), " opens ", event->name,
                                " after its owner destroyed it"));
    return absl::InvalidArgumentError("gpu: the event was destroyed");
  }
  const GpuEvent opened{device, ++last_event_};
  events_[opened.handle] = {device, event};
  return opened;
}

// --- The end of a device, and of a process ---

void SimGpuDriver::Lose(int device) {
  for (int each = 0; each < device_count(); ++each) {
    if (device >= 0 && device != each) continue;
    is_lost_[static_cast<size_t>(each)] = true;
    bool strikes = false;
    for (const auto& stream : gpus_.streams_) {
      if (!stream->IsOf(node_) || stream->device() != each) continue;
      strikes = strikes || !stream->IsDone(stream->last_number());
      // Whatever its work was, it is over.
      gpus_.HostKnows(stream->clock());
      stream->Lose(LostError(each));
    }
    if (strikes) gpus_.Injected(FaultKind::kGpuLost);
  }
}

void SimGpuDriver::Die() {
  // Whatever its work was, it is over.
  std::vector<SimGpuStream*> own;
  for (const auto& stream : gpus_.streams_) {
    if (!stream->IsOf(node_)) continue;
    own.push_back(stream.get());
    gpus_.HostKnows(stream->clock());
  }
  const bool keeps = DrawHalf();
  for (const auto& memory : gpus_.memories_.OwnedBy(node_)) {
    --gpus_.num_allocations_;
    if (memory->num_open > 0) {
      if (gpus_.keep_of_crashed_.value_or(keeps)) continue;
      memory->is_gone = true;
    }
    gpus_.log_.Forget(KeyOf(memory->base), memory->num_bytes);
    gpus_.memories_.Free(memory);
  }
  for (const auto& [base, memory] : host_memory_) {
    if (memory->storage == nullptr) --gpus_.num_allocations_;
    gpus_.log_.Forget(base, memory->num_bytes);
  }
  host_memory_.clear();
  for (const auto& [base, opened] : opened_) Close(*opened->memory);
  opened_.clear();
  for (Callback& callback : callbacks_) {
    // It holds pieces of what was abandoned, and is never destroyed.
    [[maybe_unused]] auto* abandoned =
        new absl::AnyInvocable<void(absl::Status)>(std::move(callback.call));
  }
  callbacks_.clear();
  for (SimGpuStream* stream : own) stream->Die();
}

}  // namespace reprise
