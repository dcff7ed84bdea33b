#include "agent/transport/cuda/callback_thread.h"

#include <utility>

namespace reprise {

CallbackThread::CallbackThread(Runtime& runtime)
    : runtime_(runtime),
      state_(std::make_shared<State>(runtime)),
      start_mutex_(runtime, "cuda_callback_start") {}

bool CallbackThread::Begin() {
  const MutexLock start_lock(start_mutex_);
  {
    const MutexLock lock(state_->mutex);
    if (state_->is_joining) return false;
    ++state_->num_pending;
  }
  if (thread_ != nullptr) return true;
  thread_ = runtime_.StartThread(
      "reprise_cuda",
      [&runtime = runtime_, state = state_] { Run(runtime, *state); });
  if (thread_ != nullptr) return true;
  const MutexLock lock(state_->mutex);
  --state_->num_pending;
  return false;
}

absl::Status CallbackThread::WhenDone(GpuDriver& driver, GpuStream stream,
                                      Done done) {
  if (!Begin()) {
    driver.Synchronize(stream).IgnoreError();
    return absl::UnavailableError(
        "there is no thread that waits for the GPU: the context has ended, or "
        "the system has none to give");
  }
  absl::Status added = driver.AddCallback(
      stream,
      [state = state_, done = std::move(done)](absl::Status status) mutable {
        const MutexLock lock(state->mutex);
        state->ready.push_back(
            [done = std::move(done), status = std::move(status)]() mutable {
              done(std::move(status));
            });
        state->changed.NotifyOne();
      });
  if (added.ok()) return added;
  driver.Synchronize(stream).IgnoreError();
  const MutexLock lock(state_->mutex);
  --state_->num_pending;
  state_->changed.NotifyOne();
  return added;
}

bool CallbackThread::Poll(absl::AnyInvocable<bool()> look) {
  if (!Begin()) return false;
  const MutexLock lock(state_->mutex);
  state_->looks.push_back(std::move(look));
  state_->changed.NotifyOne();
  return true;
}

void CallbackThread::Run(Runtime& runtime, State& state) {
  while (true) {
    absl::AnyInvocable<void()> task;
    {
      const MutexLock lock(state.mutex);
      // A callback that is ready does not wait for those that are polled for.
      while (state.ready.empty() && state.looks.empty()) {
        if (state.is_joining && state.num_pending == 0) return;
        state.changed.WaitUntil(state.mutex, absl::InfiniteFuture());
      }
      if (!state.ready.empty()) {
        task = std::move(state.ready.front());
        state.ready.pop_front();
      }
    }
    if (task == nullptr) {
      Look(state);
      const MutexLock lock(state.mutex);
      if (state.looks.empty() || !state.ready.empty()) continue;
      state.changed.WaitUntil(state.mutex, runtime.Now() + kPollInterval);
      continue;
    }
    task();
    task = nullptr;  // what it held may take locks, and must go before `Join`
    const MutexLock lock(state.mutex);
    --state.num_pending;
  }
}

void CallbackThread::Look(State& state) {
  std::vector<absl::AnyInvocable<bool()>> looks;
  {
    const MutexLock lock(state.mutex);
    looks.swap(state.looks);
  }
  std::vector<absl::AnyInvocable<bool()>> again;
  int num_over = 0;
  for (auto& look : looks) {
    if (look()) {
      ++num_over;
    } else {
      again.push_back(std::move(look));
    }
  }
  looks.clear();
  const MutexLock lock(state.mutex);
  state.num_pending -= num_over;
  for (auto& look : again) state.looks.push_back(std::move(look));
}

void CallbackThread::Join() {
  std::unique_ptr<Thread> thread;
  {
    const MutexLock start_lock(start_mutex_);
    thread = std::move(thread_);
    const MutexLock lock(state_->mutex);
    state_->is_joining = true;
    state_->changed.NotifyOne();
  }
  if (thread != nullptr) thread->Join();
}

}  // namespace reprise
