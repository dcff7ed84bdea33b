#include "agent/runtime/thread_pool.h"

#include <algorithm>
#include <atomic>
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

namespace {

// After a task that another had to wait for, so many waits begin awake.
constexpr int kMaxWaitsAwake = 8;

}  // namespace

struct ThreadPool::State {
  State(Runtime& runtime, std::string name, int max_threads)
      : runtime(runtime),
        name(std::move(name)),
        max_threads(max_threads),
        yields_before_sleep(runtime.yields_before_sleep()),
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

  // Sees to it that a thread is on its way to the queue if there is a task in
  // it. Returns whether `changed` is to be notified once the lock is released.
  bool CallThread(const std::shared_ptr<State>& self)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (queue.empty() || is_thread_called) return false;
    if (live_threads > busy_threads) {
      is_thread_called = !stopping;  // `Stop` has woken them all
    } else if (live_threads < max_threads) {
      is_thread_called = StartThread(self);
      return false;
    }
    return is_thread_called;
  }

  // Waits for a task, or for `Stop`: awake at first if tasks have come lately
  // while others ran. Where they come one by one, as in one call after the
  // other, a thread that stays awake only keeps a CPU from the call's next
  // step. One thread at a time stays awake, and counts as called meanwhile.
  void AwaitTask() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  bool MayWaitAwake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (REPRISE_RARE_WAY("pool waits awake")) return true;
    return yields_before_sleep > 0 && waits_awake > 0 && waits_awake-- > 0;
  }

  // The body of a thread.
  static void Work(const std::shared_ptr<State>& self);

  Runtime& runtime;
  const std::string name;
  const int max_threads;
  const int yields_before_sleep;
  Mutex mutex;
  CondVar changed;  // a task was queued, stopping was set, the threads ended
  Fifo<absl::AnyInvocable<void()>> queue ABSL_GUARDED_BY(mutex);
  // Whether there is something in it, for a look without the lock.
  std::atomic<bool> has_task = false;
  std::vector<std::unique_ptr<Thread>> threads ABSL_GUARDED_BY(mutex);
  // What `Runtime::CurrentThread` returns on each of them.
  std::vector<const void*> thread_names ABSL_GUARDED_BY(mutex);
  int live_threads ABSL_GUARDED_BY(mutex) = 0;  // have not left `Work`
  int busy_threads ABSL_GUARDED_BY(mutex) = 0;
  // A thread was notified or started, and none has looked at the queue since.
  bool is_thread_called ABSL_GUARDED_BY(mutex) = false;
  int waits_awake ABSL_GUARDED_BY(mutex) = 0;  // so many are left
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  std::shared_ptr<void> owner ABSL_GUARDED_BY(mutex);  // see `Abandon`
};

void ThreadPool::State::AwaitTask() {
  if (queue.empty() && !is_thread_called && MayWaitAwake()) {
    is_thread_called = true;
    mutex.Unlock();
    for (int i = 0; i < yields_before_sleep; ++i) {
      if (has_task.load(std::memory_order_relaxed)) break;
      runtime.Yield();
    }
    mutex.Lock();
    is_thread_called = false;
  }
  while (queue.empty() && !stopping) {
    changed.WaitUntil(mutex, absl::InfiniteFuture());
    is_thread_called = false;
  }
}

void ThreadPool::State::Work(const std::shared_ptr<State>& self) {
  State& state = *self;
  const void* const thread_name = state.runtime.CurrentThread();
  // It is released last and with no lock held, because it may own the pool.
  std::shared_ptr<void> owner;
  state.mutex.Lock();
  state.thread_names.push_back(thread_name);
  state.is_thread_called = false;
  while (true) {
    state.AwaitTask();
    if (state.queue.empty()) break;
    absl::AnyInvocable<void()> task = std::move(state.queue.front());
    state.queue.pop_front();
    state.has_task.store(!state.queue.empty(), std::memory_order_relaxed);
    ++state.busy_threads;
    const bool wakes_one = state.CallThread(self);
    state.mutex.Unlock();
    if (wakes_one) state.changed.NotifyOne();
    if (REPRISE_RARE_WAY("pool is slow to begin")) {
      state.runtime.SleepUntil(state.runtime.Now() + absl::Microseconds(500));
    }
    task();
    task = nullptr;  // releases what it holds with no lock held
    state.mutex.Lock();
    --state.busy_threads;
    if (!state.queue.empty()) state.waits_awake = kMaxWaitsAwake;
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
  Wakeup wakeup;
  return Run(std::move(task), wakeup);
}

bool ThreadPool::Run(absl::AnyInvocable<void()> task, Wakeup& wakeup) {
  // Once the lock is released, the task may have run, and its owner may have
  // destroyed this pool.
  const std::shared_ptr<State> state = state_;
  absl::AnyInvocable<void()> refused;  // destroyed with no lock held
  MutexLock lock(state->mutex);
  if (state->stopping) return false;
  state->queue.push_back(std::move(task));
  state->has_task.store(true, std::memory_order_relaxed);
  if (state->CallThread(state)) wakeup.state_ = state;
  if (state->live_threads > 0) return true;
  refused = std::move(state->queue.front());  // no other waits: none was taken
  state->queue.pop_front();
  state->has_task.store(false, std::memory_order_relaxed);
  return false;
}

ThreadPool::Wakeup::~Wakeup() {
  if (state_ != nullptr) state_->changed.NotifyOne();
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
