// The real runtime, with as many threads as a test allows.

#ifndef REPRISE_TESTS_UNIT_RUNTIME_SCARCE_RUNTIME_H_
#define REPRISE_TESTS_UNIT_RUNTIME_SCARCE_RUNTIME_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Thread-safe.
class ScarceRuntime final : public Runtime {
 public:
  // How many threads can still be started.
  explicit ScarceRuntime(int threads) : threads_(threads) {}
  void Allow(int threads) { threads_ = threads; }
  int refused() const { return refused_; }

  absl::Time Now() override { return RealRuntime().Now(); }
  void SleepUntil(absl::Time deadline) override {
    RealRuntime().SleepUntil(deadline);
  }
  std::unique_ptr<Thread> StartThread(
      std::string name, absl::AnyInvocable<void()> body) override {
    if (threads_.fetch_sub(1) <= 0) {
      ++threads_;
      ++refused_;
      return nullptr;
    }
    return RealRuntime().StartThread(std::move(name), std::move(body));
  }
  uint64_t RandomBits() override { return RealRuntime().RandomBits(); }
  const void* CurrentThread() override { return RealRuntime().CurrentThread(); }

 private:
  void Lock(Mutex& mutex) override { mutex.slots().native.lock(); }
  void Unlock(Mutex& mutex) override { mutex.slots().native.unlock(); }
  bool Wait(CondVar& cond_var, Mutex& mutex, absl::Time deadline) override {
    std::unique_lock<std::mutex> lock(mutex.slots().native, std::adopt_lock);
    // In slices: the clock of the real runtime is not a standard one.
    const absl::Duration left =
        std::min(deadline - Now(), absl::Milliseconds(20));
    if (left > absl::ZeroDuration()) {
      cond_var.slots().native.wait_for(lock, absl::ToChronoNanoseconds(left));
    }
    lock.release();
    return Now() < deadline;
  }
  void Notify(CondVar& cond_var, bool all) override {
    if (all) {
      cond_var.slots().native.notify_all();
    } else {
      cond_var.slots().native.notify_one();
    }
  }

  std::atomic<int> threads_;
  std::atomic<int> refused_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_RUNTIME_SCARCE_RUNTIME_H_
