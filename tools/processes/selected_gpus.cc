#include "tools/processes/selected_gpus.h"

#include <algorithm>
#include <utility>

namespace reprise {

SelectedGpus::SelectedGpus(GpuDriver& driver, std::vector<int> gpus)
    : driver_(driver), gpus_(std::move(gpus)) {}

int SelectedGpus::Beneath(int device) const {
  if (device < 0 || device >= device_count()) return -1;
  return gpus_[static_cast<size_t>(device)];
}

// --- Devices ---

int SelectedGpus::device_count() const {
  return static_cast<int>(gpus_.size());
}

const GpuProperties& SelectedGpus::properties(int device) const {
  static const auto* const none = new GpuProperties;
  const int beneath = Beneath(device);
  return beneath < 0 ? *none : driver_.properties(beneath);
}

bool SelectedGpus::CanReadPeer(int device, const std::string& uuid) {
  return driver_.CanReadPeer(Beneath(device), uuid);
}

// --- Memory ---

absl::StatusOr<void*> SelectedGpus::Allocate(int device, size_t num_bytes) {
  return driver_.Allocate(Beneath(device), num_bytes);
}

void SelectedGpus::Free(int device, void* memory) {
  driver_.Free(Beneath(device), memory);
}

absl::StatusOr<void*> SelectedGpus::AllocatePinned(size_t num_bytes) {
  return driver_.AllocatePinned(num_bytes);
}

void SelectedGpus::FreePinned(void* memory) { driver_.FreePinned(memory); }

absl::Status SelectedGpus::RegisterHost(void* memory, size_t num_bytes) {
  return driver_.RegisterHost(memory, num_bytes);
}

void SelectedGpus::UnregisterHost(void* memory) {
  driver_.UnregisterHost(memory);
}

absl::StatusOr<GpuAllocation> SelectedGpus::FindAllocation(const void* memory) {
  absl::StatusOr<GpuAllocation> found = driver_.FindAllocation(memory);
  if (!found.ok()) return found;
  const auto it = std::find(gpus_.begin(), gpus_.end(), found->device);
  found->device = it == gpus_.end() ? -1 : static_cast<int>(it - gpus_.begin());
  return found;
}

// --- Streams ---

absl::StatusOr<GpuStream> SelectedGpus::CreateStream(int device) {
  absl::StatusOr<GpuStream> stream = driver_.CreateStream(Beneath(device));
  if (stream.ok()) stream->device = device;
  return stream;
}

void SelectedGpus::DestroyStream(GpuStream stream) {
  driver_.DestroyStream(Beneath(stream));
}

absl::Status SelectedGpus::Synchronize(GpuStream stream) {
  return driver_.Synchronize(Beneath(stream));
}

absl::Status SelectedGpus::Copy(void* to, const void* from, size_t num_bytes,
                                GpuStream stream) {
  return driver_.Copy(to, from, num_bytes, Beneath(stream));
}

absl::Status SelectedGpus::AddCallback(
    GpuStream stream, absl::AnyInvocable<void(absl::Status)> callback) {
  return driver_.AddCallback(Beneath(stream), std::move(callback));
}

// --- Events ---

absl::StatusOr<GpuEvent> SelectedGpus::CreateEvent(int device, bool is_shared) {
  absl::StatusOr<GpuEvent> event =
      driver_.CreateEvent(Beneath(device), is_shared);
  if (event.ok()) event->device = device;
  return event;
}

void SelectedGpus::DestroyEvent(GpuEvent event) {
  driver_.DestroyEvent(Beneath(event));
}

absl::Status SelectedGpus::Record(GpuEvent event, GpuStream stream) {
  return driver_.Record(Beneath(event), Beneath(stream));
}

absl::Status SelectedGpus::Wait(GpuStream stream, GpuEvent event) {
  return driver_.Wait(Beneath(stream), Beneath(event));
}

absl::StatusOr<bool> SelectedGpus::IsDone(GpuEvent event) {
  return driver_.IsDone(Beneath(event));
}

absl::Status SelectedGpus::Synchronize(GpuEvent event) {
  return driver_.Synchronize(Beneath(event));
}

// --- Between processes ---

absl::StatusOr<std::string> SelectedGpus::ExportMemory(int device, void* base) {
  return driver_.ExportMemory(Beneath(device), base);
}

absl::StatusOr<void*> SelectedGpus::OpenMemory(int device,
                                               const std::string& handle) {
  return driver_.OpenMemory(Beneath(device), handle);
}

void SelectedGpus::CloseMemory(int device, void* base) {
  driver_.CloseMemory(Beneath(device), base);
}

absl::StatusOr<std::string> SelectedGpus::ExportEvent(GpuEvent event) {
  return driver_.ExportEvent(Beneath(event));
}

absl::StatusOr<GpuEvent> SelectedGpus::OpenEvent(int device,
                                                 const std::string& handle) {
  absl::StatusOr<GpuEvent> event = driver_.OpenEvent(Beneath(device), handle);
  if (event.ok()) event->device = device;
  return event;
}

}  // namespace reprise
