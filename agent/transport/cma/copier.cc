#include "agent/transport/cma/copier.h"

#include <utility>

#include "absl/time/time.h"
#include "glog/logging.h"

namespace reprise {

bool Copier::Run(Step step) {
  bool is_queued = false;
  {
    const MutexLock lock(mutex_);
    if (joining_) return false;
    is_queued = steps_.size() < num_idle_ || threads_.size() >= kMaxThreads ||
                StartThread();
    if (is_queued) {
      steps_.push_back(std::move(step));
    } else {
      ++num_here_;
    }
  }
  if (is_queued) {
    changed_.NotifyOne();
    return true;
  }
  while (step()) {
  }
  // Before `Join` returns, as it may take locks.
  step = nullptr;
  const MutexLock lock(mutex_);
  --num_here_;
  changed_.NotifyAll();
  return true;
}

bool Copier::StartThread() {
  std::unique_ptr<Thread> thread =
      runtime_.StartThread("reprise_cma", [this] { Work(); });
  if (thread != nullptr) {
    threads_.push_back(std::move(thread));
  } else {
    LOG_EVERY_N(WARNING, 100) << "cannot start a thread that copies tensors, "
                              << threads_.size() << " are there";
  }
  return !threads_.empty();
}

void Copier::Wait() { changed_.WaitUntil(mutex_, absl::InfiniteFuture()); }

void Copier::Work() {
  while (true) {
    Step step;
    {
      const MutexLock lock(mutex_);
      ++num_idle_;
      while (!joining_ && steps_.empty()) Wait();
      --num_idle_;
      if (steps_.empty()) return;
      step = std::move(steps_.front());
      steps_.pop_front();
    }
    const bool has_more = step();
    // The destruction of a step may take locks.
    if (!has_more) step = nullptr;
    const MutexLock lock(mutex_);
    if (has_more) steps_.push_back(std::move(step));
  }
}

void Copier::Join() {
  std::vector<std::unique_ptr<Thread>> threads;
  {
    const MutexLock lock(mutex_);
    joining_ = true;
    threads.swap(threads_);
  }
  changed_.NotifyAll();
  {
    const MutexLock lock(mutex_);
    while (num_here_ > 0) Wait();
  }
  for (const auto& thread : threads) thread->Join();
}

}  // namespace reprise
