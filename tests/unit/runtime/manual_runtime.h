// A `Runtime` of OS threads whose clock stands still until the test moves it.
// It counts the calls to it, so a test can tell without sleeping that a thread
// has read the clock and waits again.

#ifndef REPRISE_TESTS_UNIT_RUNTIME_MANUAL_RUNTIME_H_
#define REPRISE_TESTS_UNIT_RUNTIME_MANUAL_RUNTIME_H_

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Thread-safe, except that only one thread at a time may call `AdvanceTo`.
class ManualRuntime final : public Runtime {
 public:
  absl::Time Now() override {
    std::lock_guard<std::mutex> lock(mutex_);
    return now_;
  }

  void SleepUntil(absl::Time deadline) override {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return now_ >= deadline; });
  }

  std::unique_ptr<Thread> StartThread(
      std::string name, absl::AnyInvocable<void()> body) override {
    std::lock_guard<std::mutex> lock(mutex_);
    ++threads_started_;
    return RealRuntime().StartThread(std::move(name), std::move(body));
  }

  void Yield() override { ++yields_; }
  int yields_before_sleep() const override { return 3; }

  uint64_t RandomBits() override { return ++random_; }
  const void* CurrentThread() override { return RealRuntime().CurrentThread(); }

  // Moves the clock and wakes all waiters, whether their deadlines are reached
  // or not.
  void AdvanceTo(absl::Time now) {
    std::set<std::pair<CondVar*, Mutex*>> waiters;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      now_ = now;
      waiters = waiters_;
      changed_.notify_all();
    }
    for (const auto& [cond_var, waiters_mutex] : waiters) {
      // A registered waiter holds its mutex until it really waits.
      waiters_mutex->slots().native.lock();
      waiters_mutex->slots().native.unlock();
      cond_var->slots().native.notify_all();
    }
  }

  // Blocks until `Wait` was entered `count` times since the start.
  void AwaitWaits(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return waits_ >= count; });
  }

  int threads_started() {
    std::lock_guard<std::mutex> lock(mutex_);
    return threads_started_;
  }
  int yields() const { return yields_; }
  int notifications() {
    std::lock_guard<std::mutex> lock(mutex_);
    return notifications_;
  }

 private:
  void Lock(Mutex& mutex) override { mutex.slots().native.lock(); }
  void Unlock(Mutex& mutex) override { mutex.slots().native.unlock(); }

  bool Wait(CondVar& cond_var, Mutex& mutex, absl::Time deadline) override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ++waits_;
      changed_.notify_all();
      if (now_ >= deadline) return false;
      waiters_.emplace(&cond_var, &mutex);
    }
    std::unique_lock<std::mutex> native(mutex.slots().native, std::adopt_lock);
    cond_var.slots().native.wait(native);
    native.release();
    return Now() < deadline;
  }

  void Notify(CondVar& cond_var, bool all) override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ++notifications_;
    }
    if (all) {
      cond_var.slots().native.notify_all();
    } else {
      cond_var.slots().native.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  absl::Time now_ = absl::UnixEpoch();
  std::set<std::pair<CondVar*, Mutex*>> waiters_;  // all that ever waited
  int threads_started_ = 0;
  int waits_ = 0;
  int notifications_ = 0;
  std::atomic<int> yields_ = 0;
  std::atomic<uint64_t> random_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_RUNTIME_MANUAL_RUNTIME_H_
