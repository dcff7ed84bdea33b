#include "agent/runtime/thread_pool.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "glog/logging.h"

namespace reprise {

ThreadPool::ThreadPool(Runtime& runtime, std::string name, int max_threads)
    : runtime_(runtime),
      name_(std::move(name)),
      max_threads_(max_threads),
      mutex_(runtime, "ThreadPool"),
      changed_(runtime, "ThreadPool.changed") {
  CHECK_GT(max_threads, 0) << "thread pool '" << name_ << "'";
}

ThreadPool::~ThreadPool() {
  MutexLock lock(mutex_);
  CHECK(threads_.empty()) << "thread pool '" << name_
                          << "' was destroyed before its Stop";
}

bool ThreadPool::Run(absl::AnyInvocable<void()> task) {
  MutexLock lock(mutex_);
  if (stopping_) return false;
  queue_.push_back(std::move(task));
  const size_t idle_threads = threads_.size() - busy_threads_;
  if (idle_threads < queue_.size() &&
      threads_.size() < static_cast<size_t>(max_threads_)) {
    threads_.push_back(runtime_.StartThread(
        absl::StrCat(name_, "-", threads_.size()), [this] { Work(); }));
  } else if (idle_threads > 0) {
    // Under the lock: once it is released, the task may have run and its owner
    // may have destroyed this pool.
    changed_.NotifyOne();
  }
  return true;
}

void ThreadPool::Work() {
  mutex_.Lock();
  thread_names_.push_back(runtime_.CurrentThread());
  while (true) {
    while (queue_.empty() && !stopping_) {
      changed_.WaitUntil(mutex_, absl::InfiniteFuture());
    }
    if (queue_.empty()) break;
    absl::AnyInvocable<void()> task = std::move(queue_.front());
    queue_.pop_front();
    ++busy_threads_;
    mutex_.Unlock();
    task();
    task = nullptr;  // what it holds goes with no lock held
    mutex_.Lock();
    --busy_threads_;
  }
  mutex_.Unlock();
}

void ThreadPool::Stop() {
  std::vector<std::unique_ptr<Thread>> threads;
  {
    MutexLock lock(mutex_);
    if (stopping_) {
      while (!stopped_) changed_.WaitUntil(mutex_, absl::InfiniteFuture());
      return;
    }
    stopping_ = true;
    threads.swap(threads_);
    changed_.NotifyAll();
  }
  for (const std::unique_ptr<Thread>& thread : threads) thread->Join();
  MutexLock lock(mutex_);
  stopped_ = true;
  changed_.NotifyAll();
}

bool ThreadPool::IsCurrentThread() {
  const void* const current = runtime_.CurrentThread();
  MutexLock lock(mutex_);
  return std::find(thread_names_.begin(), thread_names_.end(), current) !=
         thread_names_.end();
}

int ThreadPool::num_idle_threads() {
  MutexLock lock(mutex_);
  return max_threads_ - busy_threads_;
}

int ThreadPool::queue_length() {
  MutexLock lock(mutex_);
  return static_cast<int>(queue_.size());
}

}  // namespace reprise
