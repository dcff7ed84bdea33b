// Lets go of memory whose last owner was faster than the GPUs.
//
// A message that has been sent is dropped while the copy out of its memory may
// still be on a stream. What belongs to the user is then given back by a later
// `GpuMemory::Poll`. An agent that is idle calls nothing of `GpuMemory`, so
// this polls while something is left, and only then.

#ifndef REPRISE_AGENT_PIPE_GPU_POLLER_H_
#define REPRISE_AGENT_PIPE_GPU_POLLER_H_

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "agent/device/gpu_memory.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/timer.h"

namespace reprise {

// Thread-safe. Lives in a shared_ptr; what still holds it after `Close` does no
// harm. `Close` comes before the timer and the memory go.
class GpuPoller : public std::enable_shared_from_this<GpuPoller> {
 public:
  // The pause before the first look, which doubles up to the second one.
  static constexpr absl::Duration kShortestPause = absl::Microseconds(100);
  static constexpr absl::Duration kLongestPause = absl::Milliseconds(10);

  GpuPoller(Runtime& runtime, Timer& timer, GpuMemory& memory);

  // Something may be left. Never blocks and lets go of nothing itself.
  void Kick();

  void Close();

 private:
  void Look();
  void ScheduleLook() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Runtime& runtime_;
  Timer& timer_;
  GpuMemory& memory_;
  Mutex mutex_;
  bool is_scheduled_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration pause_ ABSL_GUARDED_BY(mutex_) = kShortestPause;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_PIPE_GPU_POLLER_H_
