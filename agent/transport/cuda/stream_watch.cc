#include "agent/transport/cuda/stream_watch.h"

#include <utility>

namespace reprise {

StreamWatch::~StreamWatch() {
  for (const auto& [device, stream] : beside_) driver_.DestroyStream(stream);
}

absl::Status StreamWatch::After(GpuStream stream, CallbackThread::Done done) {
  absl::StatusOr<GpuStream> beside = StreamBeside(stream.device);
  absl::Status status = beside.ok() ? Follow(stream, *beside) : beside.status();
  if (!status.ok()) {
    driver_.Synchronize(stream).IgnoreError();
    return status;
  }
  // If it fails, all work of the stream beside is done, and so is the user's.
  return callbacks_.WhenDone(driver_, *beside, std::move(done));
}

absl::StatusOr<GpuStream> StreamWatch::StreamBeside(int device) {
  const auto it = beside_.find(device);
  if (it != beside_.end()) return it->second;
  absl::StatusOr<GpuStream> stream = driver_.CreateStream(device);
  if (stream.ok()) beside_.emplace(device, *stream);
  return stream;
}

absl::Status StreamWatch::Follow(GpuStream stream, GpuStream beside) {
  absl::StatusOr<GpuEvent> event =
      driver_.CreateEvent(stream.device, /*is_shared=*/false);
  if (!event.ok()) return event.status();
  absl::Status status = driver_.Record(*event, stream);
  if (status.ok()) status = driver_.Wait(beside, *event);
  driver_.DestroyEvent(*event);
  return status;
}

}  // namespace reprise
