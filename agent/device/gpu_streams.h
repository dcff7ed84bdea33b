// The streams and events that the agent uses on the GPUs of its process.
//
// Thread-safe. No function but `Synchronize` waits for a GPU. Errors are those
// of the driver (agent/device/driver.h), which must outlive this object. The
// callbacks of a driver may not call anything here.

#ifndef REPRISE_AGENT_DEVICE_GPU_STREAMS_H_
#define REPRISE_AGENT_DEVICE_GPU_STREAMS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "agent/device/driver.h"
#include "agent/device/stream_set.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

class GpuStreams {
 public:
  // Messages take turns on so many streams of a device. Two messages on one
  // stream wait for each other, but that is all they can do wrong.
  static constexpr int kStreamsPerDevice = 32;
  // So many events of a device are kept for reuse.
  static constexpr size_t kMaxKeptEvents = 256;

  GpuStreams(Runtime& runtime, GpuDriver& driver);
  // Destroys the streams and events. Work that was put on them is done
  // nevertheless.
  ~GpuStreams();

  GpuDriver& driver() { return driver_; }

  // The next stream of each of `devices`. INVALID_ARGUMENT for a device that
  // does not exist.
  absl::StatusOr<StreamSet> Next(absl::Span<const int> devices);

  // The same, for work on memory of `devices` that is ready on `ready`: each
  // stream waits for all that this names. If it names none of a device, the
  // stream of that waits for its default stream, and for that of `otherwise` if
  // there is one.
  absl::StatusOr<StreamSet> NextAfter(absl::Span<const int> devices,
                                      const StreamSet& ready,
                                      const StreamSet& otherwise = {});

  // Lets work that is put on `later` from now on wait for the work that is on
  // `earlier` now.
  absl::Status WaitFor(GpuStream later, GpuStream earlier);
  // The same for all streams that `earlier` names.
  absl::Status WaitFor(GpuStream later, const StreamSet& earlier);
  // The same for the streams of each of `devices`, default streams among them.
  absl::Status WaitFor(const StreamSet& later, const StreamSet& earlier,
                       absl::Span<const int> devices);

  // Blocks until the work on all streams that the set names is done. Returns
  // the first error, but waits for all of them.
  absl::Status Synchronize(const StreamSet& streams);

  // An event after the work that is on `stream` now. To be given to `Release`,
  // which may happen while streams wait for it.
  absl::StatusOr<GpuEvent> Record(GpuStream stream);
  void Release(GpuEvent event);

  // OK when the device exists.
  absl::Status Check(int device) const;

 private:
  struct PerDevice {
    std::array<uintptr_t, kStreamsPerDevice> streams = {};  // 0: not made yet
    int next = 0;
    std::vector<GpuEvent> events;
  };

  absl::StatusOr<GpuStream> NextOf(int device);

  GpuDriver& driver_;
  Mutex mutex_;
  std::vector<PerDevice> devices_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_GPU_STREAMS_H_
