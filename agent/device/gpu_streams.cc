#include "agent/device/gpu_streams.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise {

GpuStreams::GpuStreams(Runtime& runtime, GpuDriver& driver)
    : driver_(driver),
      mutex_(runtime, "GpuStreams"),
      devices_(static_cast<size_t>(driver.device_count())) {
  // So that `Release` allocates nothing.
  for (PerDevice& device : devices_) device.events.reserve(kMaxKeptEvents);
}

GpuStreams::~GpuStreams() {
  std::vector<PerDevice> devices;
  {
    MutexLock lock(mutex_);
    devices = std::move(devices_);
  }
  for (size_t i = 0; i < devices.size(); ++i) {
    for (GpuEvent event : devices[i].events) driver_.DestroyEvent(event);
    for (uintptr_t handle : devices[i].streams) {
      if (handle != 0) driver_.DestroyStream({static_cast<int>(i), handle});
    }
  }
}

absl::Status GpuStreams::Check(int device) const {
  const int count = driver_.device_count();
  if (device >= 0 && device < count) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("there is no device cuda:", device, "; this process has ",
                   count, ", counted from 0"));
}

absl::StatusOr<GpuStream> GpuStreams::NextOf(int device) {
  if (absl::Status status = Check(device); !status.ok()) return status;
  int turn;
  {
    MutexLock lock(mutex_);
    PerDevice& ours = devices_[device];
    turn = ours.next;
    ours.next = (turn + 1) % kStreamsPerDevice;
    if (ours.streams[turn] != 0) return GpuStream{device, ours.streams[turn]};
  }
  absl::StatusOr<GpuStream> made = driver_.CreateStream(device);
  if (!made.ok()) return made;
  uintptr_t there;
  {
    MutexLock lock(mutex_);
    uintptr_t& place = devices_[device].streams[turn];
    there = place;
    if (there == 0) place = made->handle;
  }
  if (there == 0) return made;
  // 32 threads later another one was faster.
  driver_.DestroyStream(*made);
  return GpuStream{device, there};
}

absl::StatusOr<StreamSet> GpuStreams::Next(absl::Span<const int> devices) {
  StreamSet set;
  for (int device : devices) {
    const absl::StatusOr<GpuStream> stream = NextOf(device);
    if (!stream.ok()) return stream.status();
    set.Set(*stream);
  }
  return set;
}

absl::StatusOr<StreamSet> GpuStreams::NextAfter(absl::Span<const int> devices,
                                                const StreamSet& ready,
                                                const StreamSet& otherwise) {
  absl::StatusOr<StreamSet> set = Next(devices);
  if (!set.ok()) return set;
  for (const GpuStream& stream : set->streams()) {
    const int device = stream.device;
    absl::Status status = WaitFor(stream, ready);
    if (status.ok() && !ready.Has(device)) {
      status = WaitFor(stream, ready.On(device));
      if (status.ok() && otherwise.Has(device)) {
        status = WaitFor(stream, otherwise.On(device));
      }
    }
    if (!status.ok()) return status;
  }
  return set;
}

absl::Status GpuStreams::WaitFor(GpuStream later, GpuStream earlier) {
  if (later == earlier) return absl::OkStatus();
  const absl::StatusOr<GpuEvent> event = Record(earlier);
  if (!event.ok()) return event.status();
  absl::Status status = driver_.Wait(later, *event);
  Release(*event);
  return status;
}

absl::Status GpuStreams::WaitFor(GpuStream later, const StreamSet& earlier) {
  for (const GpuStream& stream : earlier.streams()) {
    absl::Status status = WaitFor(later, stream);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status GpuStreams::WaitFor(const StreamSet& later,
                                 const StreamSet& earlier,
                                 absl::Span<const int> devices) {
  for (int device : devices) {
    absl::Status status = WaitFor(later.On(device), earlier.On(device));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status GpuStreams::Synchronize(const StreamSet& streams) {
  absl::Status first_error;
  for (const GpuStream& stream : streams.streams()) {
    first_error.Update(driver_.Synchronize(stream));
  }
  return first_error;
}

absl::StatusOr<GpuEvent> GpuStreams::Record(GpuStream stream) {
  if (absl::Status status = Check(stream.device); !status.ok()) return status;
  std::optional<GpuEvent> event;
  {
    MutexLock lock(mutex_);
    std::vector<GpuEvent>& kept = devices_[stream.device].events;
    if (!kept.empty()) {
      event = kept.back();
      kept.pop_back();
    }
  }
  if (!event.has_value()) {
    const absl::StatusOr<GpuEvent> made =
        driver_.CreateEvent(stream.device, /*is_shared=*/false);
    if (!made.ok()) return made.status();
    event = *made;
  }
  if (absl::Status status = driver_.Record(*event, stream); !status.ok()) {
    driver_.DestroyEvent(*event);
    return status;
  }
  return *event;
}

void GpuStreams::Release(GpuEvent event) {
  {
    MutexLock lock(mutex_);
    std::vector<GpuEvent>& kept = devices_[event.device].events;
    if (kept.size() < kMaxKeptEvents) {
      kept.push_back(event);
      return;
    }
  }
  driver_.DestroyEvent(event);
}

}  // namespace reprise
