// A pool of worker threads over one FIFO queue.
//
// One thread at a time is on its way to the queue: a task that is queued calls
// an idle thread unless one has been called that has not arrived yet, and a
// thread that takes a task calls the next one if there are more. So short tasks
// that come in a burst are run by few threads, which stay awake, and a task
// that blocks delays none of the others.
//
// A thread is started when one is called and none is idle, up to
// `max_threads`: a pool that is never used costs nothing. When the system has
// no further thread to give, the pool goes on with the threads that it has and
// tries again with the next task. A pool that must be able to run every task
// calls `Start` first, which reports the failure of the first thread.

#ifndef REPRISE_AGENT_RUNTIME_THREAD_POOL_H_
#define REPRISE_AGENT_RUNTIME_THREAD_POOL_H_

#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// RESOURCE_EXHAUSTED: the thread `name` could not be started.
absl::Status CannotStartThread(const std::string& name);

// Thread-safe. Before it is destroyed, `Stop` must have returned true, or
// `Abandon` must have been called. None of these is called by a thread of the
// pool.
class ThreadPool {
 public:
  class Wakeup;

  // Threads are named `name`-0, `name`-1, ...
  ThreadPool(Runtime& runtime, std::string name, int max_threads);
  ~ThreadPool();

  // Starts the first thread. RESOURCE_EXHAUSTED when that is impossible.
  absl::Status Start();

  // Never blocks. Returns false, and destroys `task`, after `Stop` has begun,
  // and when the pool has no thread and none can be started.
  bool Run(absl::AnyInvocable<void()> task);
  // The same for a caller that holds a lock: the thread that is called, if any,
  // is woken when `wakeup` is destroyed, soon and after that lock is released,
  // so that it need not wait for it.
  bool Run(absl::AnyInvocable<void()> task, Wakeup& wakeup);

  // Refuses further tasks, runs those that are queued and ends the threads.
  // Returns false when some task still runs at `deadline`; the tasks that are
  // still queued are then destroyed without having run. May be called again, to
  // wait for longer, and by several threads at a time.
  bool Stop(absl::Time deadline = absl::InfiniteFuture());

  // After a `Stop` that returned false: leaves the threads that still run to
  // themselves. They keep `owner` alive until the last of them has ended, and
  // that one destroys it.
  void Abandon(std::shared_ptr<void> owner);

  // Whether one of its threads calls.
  bool IsCurrentThread();

  // For metrics. Threads that were never started count as idle.
  int max_threads() const;
  int num_idle_threads();
  int num_busy_threads();
  int queue_length();

 private:
  // Shared with the threads, so that it outlives the pool while one of them, or
  // a `Run` that has just handed over its task, still uses it.
  struct State;

  const std::shared_ptr<State> state_;
};

// Wakes a thread of a pool at its destruction if a `Run` has left that to it.
// It may collect what several calls of `Run` of one pool leave.
class ThreadPool::Wakeup {
 public:
  Wakeup() = default;
  ~Wakeup();
  Wakeup(const Wakeup&) = delete;
  Wakeup& operator=(const Wakeup&) = delete;

 private:
  friend class ThreadPool;
  std::shared_ptr<State> state_;  // null when nobody is to be woken
};

}  // namespace reprise

#endif  // REPRISE_AGENT_RUNTIME_THREAD_POOL_H_
