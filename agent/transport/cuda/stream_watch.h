// Calls back when work of a user's stream is done, without holding up the
// stream.
//
// A callback in a stream stops the work behind it until it has returned. So a
// stream beside it waits for the work and has the callback. As a callback takes
// the driver about 40 us, there is one at a time for a device, which looks at
// everything that has been done meanwhile.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_STREAM_WATCH_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_STREAM_WATCH_H_

#include <map>
#include <memory>

#include "absl/status/status.h"
#include "agent/device/driver.h"
#include "agent/transport/cuda/callback_thread.h"

namespace reprise {

// Has one more stream for each device that it watches. What it watches is
// called back in the order of the calls for that device, but for what is done
// when it is first looked at. Not thread-safe. Must outlive nothing: callbacks
// that are owed come after its destruction, too.
class StreamWatch {
 public:
  // About as many looks at an event as a copy of 64 KiB takes.
  static constexpr int kBriefly = 20;

  StreamWatch(GpuDriver& driver, CallbackThread& callbacks)
      : driver_(driver), callbacks_(callbacks) {}
  StreamWatch(const StreamWatch&) = delete;
  StreamWatch& operator=(const StreamWatch&) = delete;

  // Calls `done` on the context's callback thread, once, when the work that
  // `stream` has now is done or has failed, with its status. If that is so
  // within the first `num_looks` looks, it is called before this returns. If
  // this returns an error, `done` is destroyed without being called, and the
  // work is done as far as the driver can tell.
  absl::Status After(GpuStream stream, CallbackThread::Done done,
                     int num_looks = 0);

 private:
  class Queue;  // of one device

  GpuDriver& driver_;
  CallbackThread& callbacks_;
  std::map<int, std::shared_ptr<Queue>> queues_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_STREAM_WATCH_H_
