#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <exception>
#include <future>
#include <latch>
#include <memory>
#include <mutex>
#include <random>
#include <semaphore>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/random/random.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/scenarios/std_threads.h"
#include "tests/scenarios/std_threads_checks.h"

namespace std_threads {
namespace {

template <typename Body>
void OnThreads(int number, Body body) {
  std::vector<std::jthread> threads;
  for (int i = 0; i < number; ++i) threads.emplace_back([&, i] { body(i); });
}

// libstdc++ keeps who waits for these in one of 16 places, chosen by bits 2 to
// 5 of their addresses, which depend on the compiler. A worker may be woken by
// another one's object of the same place.
template <typename Value>
struct alignas(64) InOnePlace {
  template <typename... Args>
  explicit InOnePlace(Args&&... args) : value(std::forward<Args>(args)...) {}
  Value value;
};

// Counts the ends of threads that had a value.
void CountEnd(void* value) { ++*static_cast<int*>(value); }

class WorkerPool {
 public:
  explicit WorkerPool(int threads) {
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this] { Work(); });
    }
  }
  ~WorkerPool() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    not_empty_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  std::future<std::string> Submit(std::packaged_task<std::string()> task) {
    std::future<std::string> result = task.get_future();
    {
      std::unique_lock lock(mutex_);
      not_full_.wait(lock, [&] { return tasks_.size() < 2; });
      tasks_.push_back(std::move(task));
    }
    not_empty_.notify_one();
    return result;
  }

 private:
  void Work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      not_empty_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      std::packaged_task<std::string()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      not_full_.notify_one();
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable not_empty_;
  std::condition_variable not_full_;
  bool stopping_ = false;
  std::deque<std::packaged_task<std::string()>> tasks_;
  std::vector<std::thread> threads_;
};

}  // namespace

std::string Threads() {
  const std::thread::id main = std::this_thread::get_id();
  std::thread::id first;
  std::thread::id second;
  std::thread thread([&] {
    first = std::this_thread::get_id();
    std::this_thread::sleep_for(1ms);
    second = std::this_thread::get_id();
  });
  const std::thread::id outside = thread.get_id();
  thread.join();
  REQUIRE(first == second && first == outside && first != main);

  auto promise = std::make_shared<std::promise<int>>();
  std::future<int> future = promise->get_future();
  std::thread([promise] {
    std::this_thread::sleep_for(4ms);
    promise->set_value_at_thread_exit(5);
  }).detach();
  REQUIRE(future.get() == 5);

  pthread_t exiting{};
  REQUIRE(pthread_create(
              &exiting, nullptr,
              [](void*) -> void* { pthread_exit(reinterpret_cast<void*>(42)); },
              nullptr) == 0);
  void* result = nullptr;
  REQUIRE(pthread_join(exiting, &result) == 0);
  REQUIRE(result == reinterpret_cast<void*>(42));
  return "";
}

std::string Locals() {
  std::atomic<int> errnos{0};
  OnThreads(3, [&](int i) {
    errno = 100 + i;
    std::this_thread::sleep_for(1ms);
    if (errno == 100 + i) ++errnos;
  });
  REQUIRE(errnos == 3);

  pthread_key_t key{};
  REQUIRE(pthread_key_create(&key, &CountEnd) == 0);
  int ends[2] = {};
  std::atomic<int> kept{0};
  OnThreads(2, [&](int i) {
    pthread_setspecific(key, &ends[i]);
    std::this_thread::sleep_for(1ms);
    if (pthread_getspecific(key) == &ends[i]) ++kept;
  });
  REQUIRE(kept == 2 && ends[0] == 1 && ends[1] == 1);
  REQUIRE(pthread_getspecific(key) == nullptr);
  pthread_key_delete(key);

  // Exceptions that are handled while others run.
  std::atomic<int> caught{0};
  OnThreads(3, [&](int i) {
    try {
      throw i;
    } catch (...) {
      std::this_thread::sleep_for(std::chrono::milliseconds(3 - i));
      try {
        throw;
      } catch (int value) {
        if (value == i) ++caught;
      }
    }
  });
  REQUIRE(caught == 3);
  return "";
}

std::string Futures() {
  auto slow = std::async(std::launch::async, [] {
    std::this_thread::sleep_for(10ms);
    return 3;
  });
  const auto start = Clock::now();
  REQUIRE(slow.wait_for(5ms) == std::future_status::timeout);
  REQUIRE(Clock::now() - start >= 5ms && Clock::now() - start < 6ms);
  REQUIRE(slow.wait_until(std::chrono::system_clock::now() + 100ms) ==
          std::future_status::ready);
  REQUIRE(slow.get() == 3);

  std::promise<int> promise;
  std::shared_future<int> shared = promise.get_future().share();
  std::atomic<int> sum{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&sum, shared] { sum += shared.get(); });
    }
    promise.set_value(2);
  }
  REQUIRE(sum == 6);

  std::promise<int> failing;
  std::future<int> failed = failing.get_future();
  std::jthread thread([&] {
    failing.set_exception(std::make_exception_ptr(std::runtime_error("no")));
  });
  bool caught = false;
  try {
    failed.get();
  } catch (const std::runtime_error&) {
    caught = true;
  }
  REQUIRE(caught);
  return "";
}

std::string Atomics() {
  std::atomic<int> narrow{0};
  std::jthread first([&] {
    std::this_thread::sleep_for(2ms);
    narrow = 1;
    narrow.notify_all();
  });
  narrow.wait(0);
  const auto wide = std::make_unique<InOnePlace<std::atomic<int64_t>>>(0);
  std::jthread second([&] {
    std::this_thread::sleep_for(2ms);
    wide->value = 1;
    wide->value.notify_one();
  });
  wide->value.wait(0);

  std::latch latch(3);
  OnThreads(3, [&](int) { latch.arrive_and_wait(); });
  int phases = 0;
  const auto completed = [&]() noexcept { ++phases; };
  const auto barrier =
      std::make_unique<InOnePlace<std::barrier<decltype(completed)>>>(
          3, completed);
  OnThreads(3, [&](int) {
    for (int i = 0; i < 4; ++i) barrier->value.arrive_and_wait();
  });
  REQUIRE(phases == 4);

  std::atomic<bool> flag{false};
  std::jthread setter([&] {
    std::this_thread::sleep_for(1ms);
    flag = true;
  });
  while (!flag) std::this_thread::yield();
  return "";
}

std::string Semaphores() {
  std::counting_semaphore<4> counting(1);
  std::atomic<int> inside{0};
  std::atomic<bool> overlap{false};
  OnThreads(3, [&](int) {
    counting.acquire();
    if (inside++ != 0) overlap = true;
    std::this_thread::sleep_for(1ms);
    --inside;
    counting.release();
  });
  REQUIRE(!overlap);
  std::binary_semaphore binary(0);
  const auto start = Clock::now();
  REQUIRE(!binary.try_acquire_for(20ms));
  REQUIRE(Clock::now() - start >= 20ms && Clock::now() - start < 25ms);

  sem_t posix;
  REQUIRE(sem_init(&posix, 0, 0) == 0);
  std::jthread poster([&] {
    std::this_thread::sleep_for(1ms);
    sem_post(&posix);
  });
  REQUIRE(sem_wait(&posix) == 0);
  timespec deadline{};
  clock_gettime(CLOCK_REALTIME, &deadline);
  deadline.tv_sec += 1;
  REQUIRE(sem_timedwait(&posix, &deadline) == -1 && errno == ETIMEDOUT);
  REQUIRE(sem_destroy(&posix) == 0);

  pthread_barrier_t barrier;
  REQUIRE(pthread_barrier_init(&barrier, nullptr, 3) == 0);
  std::atomic<int> serial{0};
  OnThreads(3, [&](int) {
    for (int i = 0; i < 3; ++i) {
      if (pthread_barrier_wait(&barrier) != 0) ++serial;
    }
  });
  REQUIRE(serial == 3 && pthread_barrier_destroy(&barrier) == 0);
  return "";
}

std::string Polls() {
  const auto start = Clock::now();
  REQUIRE(poll(nullptr, 0, 20) == 0);
  REQUIRE(Clock::now() - start >= 20ms && Clock::now() - start < 21ms);
  const int event = eventfd(0, EFD_NONBLOCK);
  std::jthread writer([&] {
    std::this_thread::sleep_for(3ms);
    eventfd_write(event, 1);
  });
  pollfd asked{event, POLLIN, 0};
  const int ready = poll(&asked, 1, 1000);
  const auto waited = Clock::now() - start;
  writer.join();
  close(event);
  REQUIRE(ready == 1 && waited < 50ms);
  return "";
}

std::string Pool(const Call& call) {
  WorkerPool pool(2);
  std::vector<std::future<std::string>> replies;
  for (int i = 0; i < 6; ++i) {
    replies.push_back(pool.Submit(std::packaged_task<std::string()>(
        [&call, i] { return call("request " + std::to_string(i)); })));
  }
  for (int i = 0; i < 6; ++i) {
    const std::string reply = replies[i].get();
    if (reply != "request " + std::to_string(i)) return reply;
  }
  return "";
}

std::string Sources() {
  std::ostringstream text;
  timeval day{};
  gettimeofday(&day, nullptr);
  uint64_t bits = 0;
  if (getentropy(&bits, sizeof(bits)) != 0) return "getentropy failed";
  // All of these must depend on the seed alone.
  const auto id = std::this_thread::get_id();
  absl::BitGen generator;                                   // NOLINT(draws)
  const unsigned device = std::random_device{}();           // NOLINT(draws)
  const int libc = rand();                                  // NOLINT(draws)
  const size_t id_hash = std::hash<std::thread::id>()(id);  // NOLINT(draws)
  text << std::chrono::system_clock::now().time_since_epoch().count() << ' '
       << Clock::now().time_since_epoch().count() << ' ' << time(nullptr) << ' '
       << day.tv_sec << '.' << day.tv_usec << ' ' << clock() << ' '
       << absl::ToUnixNanos(absl::Now()) << ' ' << device << ' ' << libc << ' '
       << bits << ' ' << absl::Uniform<uint32_t>(generator) << ' ' << getpid()
       << ' ' << gettid() << ' ' << id << ' ' << id_hash << ' '
       << std::thread::hardware_concurrency();
  sleep(1);
  usleep(10);
  const timespec duration{0, 1000};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &duration, nullptr);
  return text.str();
}

}  // namespace std_threads
