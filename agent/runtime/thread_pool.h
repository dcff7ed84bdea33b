// A pool of worker threads over one FIFO queue.
//
// Threads are started when work arrives and no thread is idle, up to
// `max_threads`: a pool that is never used costs nothing.

#ifndef REPRISE_AGENT_RUNTIME_THREAD_POOL_H_
#define REPRISE_AGENT_RUNTIME_THREAD_POOL_H_

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Thread-safe. `Stop` must be called before it is destroyed, and not from one
// of its own threads.
class ThreadPool {
 public:
  // Threads are named `name`-0, `name`-1, ...
  ThreadPool(Runtime& runtime, std::string name, int max_threads);
  ~ThreadPool();

  // Never blocks. Returns false, and drops `task`, after `Stop` has begun.
  bool Run(absl::AnyInvocable<void()> task);

  // Runs what is queued, then ends and joins the threads. Idempotent; every
  // caller returns after the last thread has ended.
  void Stop();

  // Whether one of its threads calls.
  bool IsCurrentThread();

  // For metrics. Threads that were never started count as idle.
  int max_threads() const { return max_threads_; }
  int num_idle_threads();
  int queue_length();

 private:
  void Work();

  Runtime& runtime_;
  const std::string name_;
  const int max_threads_;
  Mutex mutex_;
  CondVar changed_;  // a task was queued, stopping_ or stopped_ was set
  std::deque<absl::AnyInvocable<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Thread>> threads_ ABSL_GUARDED_BY(mutex_);
  // What `Runtime::CurrentThread` names them.
  std::vector<const void*> thread_names_ ABSL_GUARDED_BY(mutex_);
  int busy_threads_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_RUNTIME_THREAD_POOL_H_
