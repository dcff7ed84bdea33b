#include "agent/transport/cma/copier.h"

#include <system_error>
#include <utility>

#include "glog/logging.h"
#include "tensorpipe/common/system.h"

namespace reprise {

bool Copier::Run(Step step) {
  bool is_queued = false;
  {
    const std::lock_guard lock(mutex_);
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
    changed_.notify_one();
    return true;
  }
  while (step()) {
  }
  // Before `Join` returns, as it may take locks.
  step = nullptr;
  const std::lock_guard lock(mutex_);
  --num_here_;
  changed_.notify_all();
  return true;
}

bool Copier::StartThread() {
  try {
    threads_.emplace_back([this] { Work(); });
  } catch (const std::system_error& error) {
    LOG_EVERY_N(WARNING, 100)
        << "cannot start a thread that copies tensors, " << threads_.size()
        << " are there: " << error.what();
  }
  return !threads_.empty();
}

void Copier::Work() {
  tensorpipe::setThreadName("reprise_cma");
  std::unique_lock lock(mutex_);
  while (true) {
    ++num_idle_;
    changed_.wait(lock, [&] { return joining_ || !steps_.empty(); });
    --num_idle_;
    if (steps_.empty()) return;
    Step step = std::move(steps_.front());
    steps_.pop_front();
    lock.unlock();
    const bool has_more = step();
    // The destruction of a step may take locks.
    if (!has_more) step = nullptr;
    lock.lock();
    if (has_more) steps_.push_back(std::move(step));
  }
}

void Copier::Join() {
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    joining_ = true;
    threads.swap(threads_);
  }
  changed_.notify_all();
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return num_here_ == 0; });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace reprise
