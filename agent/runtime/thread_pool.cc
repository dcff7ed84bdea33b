#include "agent/runtime/thread_pool.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/rare_way.h"
#include "agent/runtime/fifo.h"
#include "agent/runtime/mutex.h"
#include "glog/logging.h"

namespace reprise {

absl::Status CannotStartThread(const std::string& name) {
  return absl::ResourceExhaustedError(absl::StrCat(
      "cannot start the thread '", name,
      "': the system has no thread to give; see the limits of processes "
      "(ulimit -u), of address space (ulimit -v) and of the control group"));
}

struct ThreadPool::State {
  State(Runtime& runtime, std::string name, int max_threads)
      : runtime(runtime),
        name(std::move(name)),
        max_threads(max_threads),
        mutex(runtime, "ThreadPool"),
        changed(runtime, "ThreadPool.changed") {}

  // Returns whether a thread was started, which holds `self`, this state.
  bool StartThread(const std::shared_ptr<State>& self)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::unique_ptr<Thread> thread = runtime.StartThread(
        absl::StrCat(name, "-", threads.size()), [self] { Work(self); });
    if (thread == nullptr) return false;
    threads.push_back(std::move(thread));
    ++live_threads;
    return true;
  }

  bool HasRoom() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return live_threads < max_threads;
  }

  // The body of a thread.
  static void Work(const std::shared_ptr<State>& self);

  Runtime& runtime;
  const std::string name;
  const int max_threads;
  Mutex mutex;
  CondVar changed;  // a task was queued, stopping was set, the threads ended
  Fifo<absl::AnyInvocable<void()>> queue ABSL_GUARDED_BY(mutex);
  std::vector<std::unique_ptr<Thread>> threads ABSL_GUARDED_BY(mutex);
  // What `Runtime::CurrentThread` returns on each of them.
  std::vector<const void*> thread_names ABSL_GUARDED_BY(mutex);
  int live_threads ABSL_GUARDED_BY(mutex) = 0;  // have not left `Work`
  int busy_threads ABSL_GUARDED_BY(mutex) = 0;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  std::shared_ptr<void> owner ABSL_GUARDED_BY(mutex);  // see `Abandon`
};

void ThreadPool::State::Work(const std::shared_ptr<State>& self) {
  State& state = *self;
  const void* const thread_name = state.runtime.CurrentThread();
  // It is released last and with no lock held, because it may own the pool.
  std::shared_ptr<void> owner;
  state.mutex.Lock();
  state.thread_names.push_back(thread_name);
  while (true) {
    while (state.queue.empty() && !state.stopping) {
      state.changed.WaitUntil(state.mutex, absl::InfiniteFuture());
    }
    if (state.queue.empty()) break;
    absl::AnyInvocable<void()> task = std::move(state.queue.front());
    state.queue.pop_front();
    ++state.busy_threads;
    if (!state.queue.empty() && state.busy_threads == state.live_threads &&
        state.HasRoom()) {
      state.StartThread(self);  // the start failed in `Run`
    }
    state.mutex.Unlock();
    if (REPRISE_RARE_WAY("pool is slow to begin")) {
      state.runtime.SleepUntil(state.runtime.Now() + absl::Microseconds(500));
    }
    task();
    task = nullptr;  // releases what it holds with no lock held
    state.mutex.Lock();
    --state.busy_threads;
  }
  state.thread_names.erase(std::find(state.thread_names.begin(),
                                     state.thread_names.end(), thread_name));
  const bool is_last = --state.live_threads == 0;
  if (is_last) owner.swap(state.owner);
  state.mutex.Unlock();
  if (is_last) state.changed.NotifyAll();
}

ThreadPool::ThreadPool(Runtime& runtime, std::string name, int max_threads)
    : state_(std::make_shared<State>(runtime, std::move(name), max_threads)) {
  CHECK_GT(max_threads, 0) << "thread pool '" << state_->name << "'";
}

ThreadPool::~ThreadPool() {
  MutexLock lock(state_->mutex);
  CHECK(state_->threads.empty())
      << "thread pool '" << state_->name << "' was destroyed before its Stop";
}

absl::Status ThreadPool::Start() {
  MutexLock lock(state_->mutex);
  if (state_->live_threads > 0 || state_->stopping ||
      state_->StartThread(state_)) {
    return absl::OkStatus();
  }
  return CannotStartThread(absl::StrCat(state_->name, "-0"));
}

bool ThreadPool::Run(absl::AnyInvocable<void()> task) {
  // Once the lock is released, the task may have run, and its owner may have
  // destroyed this pool.
  const std::shared_ptr<State> state = state_;
  bool wakes_one = false;
  {
    MutexLock lock(state->mutex);
    if (state->stopping) return false;
    const auto idle_threads =
        static_cast<size_t>(state->live_threads - state->busy_threads);
    const bool starts_one = idle_threads <= state->queue.size() &&
                            state->HasRoom() && state->StartThread(state);
    if (state->live_threads == 0) return false;
    state->queue.push_back(std::move(task));
    wakes_one = !starts_one && idle_threads > 0;
  }
  // The lock is released by now, so that the thread that wakes need not wait
  // for it.
  if (wakes_one) state->changed.NotifyOne();
  return true;
}

bool ThreadPool::Stop(absl::Time deadline) {
  // Declared before the lock: they are destroyed after it is released.
  Fifo<absl::AnyInvocable<void()>> dropped;
  std::vector<std::unique_ptr<Thread>> threads;
  {
    MutexLock lock(state_->mutex);
    state_->stopping = true;
    state_->changed.NotifyAll();
    bool in_time = true;
    while (state_->live_threads > 0) {
      if (!in_time) {
        if (dropped.empty()) dropped.swap(state_->queue);
        if (state_->busy_threads > 0) return false;
        // The threads have nothing more to run, and are about to end.
      }
      const bool was_notified = state_->changed.WaitUntil(
          state_->mutex, in_time ? deadline : absl::InfiniteFuture());
      in_time = in_time && was_notified;
    }
    threads.swap(state_->threads);
  }
  for (const std::unique_ptr<Thread>& thread : threads) thread->Join();
  return true;
}

void ThreadPool::Abandon(std::shared_ptr<void> owner) {
  std::vector<std::unique_ptr<Thread>> threads;
  {
    MutexLock lock(state_->mutex);
    threads.swap(state_->threads);
    if (state_->live_threads > 0) state_->owner.swap(owner);
  }
  for (const std::unique_ptr<Thread>& thread : threads) thread->Detach();
}

bool ThreadPool::IsCurrentThread() {
  State& state = *state_;
  const void* const current = state.runtime.CurrentThread();
  MutexLock lock(state.mutex);
  return std::find(state.thread_names.begin(), state.thread_names.end(),
                   current) != state.thread_names.end();
}

int ThreadPool::max_threads() const { return state_->max_threads; }

int ThreadPool::num_idle_threads() {
  return state_->max_threads - num_busy_threads();
}

int ThreadPool::num_busy_threads() {
  MutexLock lock(state_->mutex);
  return state_->busy_threads;
}

int ThreadPool::queue_length() {
  MutexLock lock(state_->mutex);
  return static_cast<int>(state_->queue.size());
}

}  // namespace reprise
