#include "agent/pipe/gpu_poller.h"

#include <algorithm>

namespace reprise {

GpuPoller::GpuPoller(Runtime& runtime, Timer& timer, GpuMemory& memory)
    : runtime_(runtime),
      timer_(timer),
      memory_(memory),
      mutex_(runtime, "GpuPoller") {}

void GpuPoller::Kick() {
  MutexLock lock(mutex_);
  pause_ = kShortestPause;
  if (!is_scheduled_) ScheduleLook();
}

void GpuPoller::ScheduleLook() {
  if (is_closed_) return;
  is_scheduled_ = true;
  timer_.Schedule(runtime_.Now() + pause_,
                  [self = shared_from_this()] { self->Look(); });
}

void GpuPoller::Look() {
  {
    MutexLock lock(mutex_);
    if (is_closed_) return;
    is_scheduled_ = false;
  }
  if (!memory_.Poll()) return;
  MutexLock lock(mutex_);
  pause_ = std::min(2 * pause_, kLongestPause);
  if (!is_scheduled_) ScheduleLook();
}

void GpuPoller::Close() {
  MutexLock lock(mutex_);
  is_closed_ = true;
}

}  // namespace reprise
