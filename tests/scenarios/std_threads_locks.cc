#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/barrier.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "tests/scenarios/std_threads.h"
#include "tests/scenarios/std_threads_checks.h"

namespace std_threads {
namespace {

// Runs `body(i)` on `number` threads, and waits for them.
template <typename Body>
void OnThreads(int number, Body body) {
  std::vector<std::jthread> threads;
  for (int i = 0; i < number; ++i) threads.emplace_back([&, i] { body(i); });
}

void LockBoth(std::mutex& first, std::mutex& second) {
  const std::lock_guard hold_first(first);
  std::this_thread::sleep_for(1ms);
  const std::lock_guard hold_second(second);
}

class Account {
 public:
  int balance() const {
    const std::lock_guard lock(mutex_);
    return balance_;
  }
  // The defect: another payment may come between the two locks.
  void Pay(int amount) { set_balance(balance() + amount); }

 private:
  void set_balance(int balance) {
    const std::lock_guard lock(mutex_);
    balance_ = balance;
  }

  mutable std::mutex mutex_;
  int balance_ = 0;
};

}  // namespace

std::string Mutexes() {
  std::mutex mutex;
  int sum = 0;
  std::atomic<int> inside{0};
  std::atomic<bool> overlap{false};
  OnThreads(4, [&](int) {
    for (int i = 0; i < 5; ++i) {
      const std::lock_guard lock(mutex);
      if (inside++ != 0) overlap = true;
      std::this_thread::sleep_for(1ms);
      ++sum;
      --inside;
    }
  });
  REQUIRE(sum == 20 && !overlap);

  std::recursive_mutex recursive;
  bool taken = true;
  {
    const std::lock_guard once(recursive);
    const std::lock_guard twice(recursive);
    std::thread([&] { taken = recursive.try_lock(); }).join();
  }
  REQUIRE(!taken);

  std::timed_mutex timed;
  {
    const std::lock_guard lock(timed);
    Clock::duration waited{};
    std::thread([&] {
      const auto start = Clock::now();
      taken = timed.try_lock_for(25ms);
      waited = Clock::now() - start;
    }).join();
    REQUIRE(!taken && waited >= 25ms && waited < 26ms);
  }

  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutex_t checked;
  pthread_mutex_init(&checked, &attributes);
  REQUIRE(pthread_mutex_lock(&checked) == 0);
  REQUIRE(pthread_mutex_lock(&checked) == EDEADLK);
  int error = 0;
  std::thread([&] { error = pthread_mutex_unlock(&checked); }).join();
  REQUIRE(error == EPERM);
  REQUIRE(pthread_mutex_unlock(&checked) == 0);
  REQUIRE(pthread_mutex_destroy(&checked) == 0);

  std::mutex first;
  std::mutex second;
  OnThreads(2, [&](int i) {
    for (int k = 0; k < 5; ++k) {
      std::scoped_lock lock(i == 0 ? first : second, i == 0 ? second : first);
      std::this_thread::yield();
    }
  });
  return "";
}

std::string SharedMutexes() {
  std::shared_mutex mutex;
  int value = 0;
  std::atomic<int> readers{0};
  std::atomic<int> most_readers{0};
  OnThreads(4, [&](int i) {
    for (int k = 0; k < 3; ++k) {
      if (i == 0) {
        const std::unique_lock lock(mutex);
        const int before = value;
        std::this_thread::sleep_for(2ms);
        value = before + 1;
      } else {
        const std::shared_lock lock(mutex);
        most_readers = std::max(most_readers.load(), ++readers);
        std::this_thread::sleep_for(1ms);
        --readers;
      }
    }
  });
  REQUIRE(value == 3 && most_readers >= 2);
  std::shared_timed_mutex timed;
  const std::shared_lock held(timed);
  bool taken = true;
  std::thread([&] { taken = timed.try_lock_for(5ms); }).join();
  REQUIRE(!taken && timed.try_lock_shared());
  timed.unlock_shared();
  return "";
}

std::string ConditionVariables() {
  std::mutex mutex;
  std::condition_variable changed;
  std::unique_lock lock(mutex);
  const auto start = Clock::now();
  REQUIRE(changed.wait_for(lock, 50ms) == std::cv_status::timeout);
  REQUIRE(Clock::now() - start >= 50ms && Clock::now() - start < 51ms);
  const auto wall_start = std::chrono::system_clock::now();
  REQUIRE(changed.wait_until(lock, wall_start + 50ms) ==
          std::cv_status::timeout);
  REQUIRE(std::chrono::system_clock::now() - wall_start >= 50ms);

  bool go = false;
  std::jthread notifier([&] {
    std::this_thread::sleep_for(5ms);
    const std::lock_guard hold(mutex);
    go = true;
    changed.notify_all();
  });
  changed.wait(lock, [&] { return go; });
  lock.unlock();

  std::shared_mutex shared;
  std::condition_variable_any any;
  bool ready = false;
  std::jthread setter([&] {
    const std::unique_lock hold(shared);
    ready = true;
    any.notify_one();
  });
  {
    std::shared_lock hold(shared);
    any.wait(hold, [&] { return ready; });
  }
  std::jthread stopped([](const std::stop_token& stop) {
    std::mutex own;
    std::condition_variable_any never;
    std::unique_lock hold(own);
    never.wait(hold, stop, [] { return false; });
  });
  std::this_thread::sleep_for(1ms);
  stopped.request_stop();
  return "";
}

std::string Onces() {
  std::once_flag once;
  int runs = 0;
  OnThreads(4, [&](int) {
    std::call_once(once, [&] {
      std::this_thread::sleep_for(2ms);
      ++runs;
    });
  });
  REQUIRE(runs == 1);

  std::once_flag failing;
  std::atomic<int> tries{0};
  std::atomic<int> caught{0};
  OnThreads(4, [&](int) {
    try {
      std::call_once(failing, [&] {
        std::this_thread::sleep_for(1ms);
        if (++tries < 3) throw std::runtime_error("again");
      });
    } catch (const std::runtime_error&) {
      ++caught;
    }
  });
  REQUIRE(tries == 3 && caught == 2);
  return "";
}

std::string AbslLocks() {
  absl::Mutex mutex;
  int sum = 0;
  OnThreads(4, [&](int) {
    for (int i = 0; i < 3; ++i) {
      const absl::MutexLock lock(&mutex);
      const int before = sum;
      absl::SleepFor(absl::Milliseconds(1));
      sum = before + 1;
    }
  });
  REQUIRE(sum == 12);

  bool go = false;
  {
    std::jthread setter([&] {
      absl::SleepFor(absl::Milliseconds(2));
      const absl::MutexLock lock(&mutex);
      go = true;
    });
    const absl::MutexLock lock(&mutex);
    mutex.Await(absl::Condition(&go));
  }
  {
    absl::CondVar never;
    const absl::MutexLock lock(&mutex);
    const absl::Time start = absl::Now();
    REQUIRE(never.WaitWithTimeout(&mutex, absl::Milliseconds(30)));
    const absl::Duration waited = absl::Now() - start;
    REQUIRE(waited >= absl::Microseconds(29'999) &&
            waited < absl::Milliseconds(31));
  }
  absl::Notification notification;
  std::jthread notifier([&] {
    absl::SleepFor(absl::Milliseconds(2));
    notification.Notify();
  });
  notification.WaitForNotification();

  absl::BlockingCounter counter(3);
  OnThreads(3, [&](int) { counter.DecrementCount(); });
  counter.Wait();
  auto* const barrier = new absl::Barrier(3);
  OnThreads(3, [&](int) {
    if (barrier->Block()) delete barrier;
  });
  const absl::ReaderMutexLock shared(&mutex);
  std::thread([&] { const absl::ReaderMutexLock also(&mutex); }).join();
  return "";
}

void Inversion() {
  std::mutex first;
  std::mutex second;
  std::jthread one([&] { LockBoth(first, second); });
  std::jthread other([&] { LockBoth(second, first); });
}

bool LostUpdate() {
  Account account;
  {
    std::jthread one([&] { account.Pay(5); });
    std::jthread other([&] { account.Pay(7); });
  }
  return account.balance() == 12;
}

}  // namespace std_threads
