// Calls back when work of a user's stream is done, without holding up the
// stream.
//
// A callback in a stream stops the work behind it until it has returned. So a
// stream beside it waits for the work and has the callback.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_STREAM_WATCH_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_STREAM_WATCH_H_

#include <map>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/driver.h"
#include "agent/transport/cuda/callback_thread.h"

namespace reprise {

// Has one more stream for each device that it watches. What it watches is
// called back in the order of the calls for that device. Not thread-safe. Must
// outlive nothing: callbacks that are owed come after its destruction, too.
class StreamWatch {
 public:
  StreamWatch(GpuDriver& driver, CallbackThread& callbacks)
      : driver_(driver), callbacks_(callbacks) {}
  StreamWatch(const StreamWatch&) = delete;
  StreamWatch& operator=(const StreamWatch&) = delete;
  ~StreamWatch();

  // As `CallbackThread::WhenDone` for the work that `stream` has now.
  absl::Status After(GpuStream stream, CallbackThread::Done done);

 private:
  absl::StatusOr<GpuStream> StreamBeside(int device);
  absl::Status Follow(GpuStream stream, GpuStream beside);

  GpuDriver& driver_;
  CallbackThread& callbacks_;
  std::map<int, GpuStream> beside_;  // by device
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_STREAM_WATCH_H_
