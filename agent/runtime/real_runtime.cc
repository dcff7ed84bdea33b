// The locks are `std::mutex` and not `absl::Mutex` because the thread sanitizer
// cannot see into an Abseil that was built without it.

#include "agent/runtime/real_runtime.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "agent/planted.h"
#include "agent/runtime/memory_reserve.h"
#include "agent/runtime/mutex.h"
#include "glog/logging.h"

namespace reprise {
namespace {

constexpr int64_t kNanosPerSecond = 1'000'000'000;
// The kernel keeps so many bytes of a thread's name, without the final zero.
constexpr size_t kMaxThreadName = 15;
// A pool tries to start a thread with every task, and must not flood the log.
constexpr int kFailuresPerWarning = 1000;

int64_t SteadyNanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kNanosPerSecond + now.tv_nsec;
}

class RealThread final : public Thread {
 public:
  // Throws what the constructor of std::thread throws.
  RealThread(const std::string& name, absl::AnyInvocable<void()> body)
      : thread_([name = name.substr(0, kMaxThreadName),
                 body = std::move(body)]() mutable {
          pthread_setname_np(pthread_self(), name.c_str());
          body();
        }) {}

  ~RealThread() override {
    CHECK(!thread_.joinable()) << "a Thread was destroyed before its Join";
  }

  void Join() override { thread_.join(); }
  void Detach() override { thread_.detach(); }

 private:
  std::thread thread_;
};

uint64_t UnforeseenBits() {
  try {
    std::random_device device;
    return uint64_t{device()} << 32 | device();
  } catch (const std::exception&) {  // no device: use the time and the id
    return static_cast<uint64_t>(absl::GetCurrentTimeNanos()) ^
           static_cast<uint64_t>(getpid()) << 40;
  }
}

}  // namespace

OsRuntime::OsRuntime(const Origin& origin)
    : start_(origin.time),
      start_nanos_(origin.steady_ns),
      random_(origin.random_bits) {}

absl::Time OsRuntime::Now() {
  return start_ + absl::Nanoseconds(SteadyNanos() - start_nanos_);
}

void OsRuntime::SleepUntil(absl::Time deadline) {
  const timespec until = ToSteady(deadline);
  // `ToSteady` cuts an infinite deadline to a far one, so this may sleep
  // again.
  do {
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) ==
           EINTR) {
    }
  } while (Now() < deadline);
}

void OsRuntime::Yield() { std::this_thread::yield(); }

// About 5 us when nothing else runs.
int OsRuntime::yields_before_sleep() const { return 16; }

// SplitMix64 from a seed that differs between processes.
uint64_t OsRuntime::RandomBits() {
  uint64_t bits = random_.fetch_add(0x9e3779b97f4a7c15u);
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9u;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebu;
  return bits ^ (bits >> 31);
}

const void* OsRuntime::CurrentThread() {
  static thread_local char mark;
  return &mark;
}

bool OsRuntime::HasMemory() { return IsMemoryReserveWhole(); }

std::unique_ptr<Thread> OsRuntime::StartThread(
    std::string name, absl::AnyInvocable<void()> body) {
  try {
    return std::make_unique<RealThread>(name, std::move(body));
  } catch (const std::exception& error) {  // std::system_error, or no memory
    LOG_EVERY_N(WARNING, kFailuresPerWarning)
        << "cannot start thread '" << name << "': " << error.what();
    return nullptr;
  }
}

void OsRuntime::Lock(Mutex& mutex) { mutex.slots().native.lock(); }
void OsRuntime::Unlock(Mutex& mutex) { mutex.slots().native.unlock(); }

bool OsRuntime::Wait(CondVar& cond_var, Mutex& mutex, absl::Time deadline) {
  std::mutex& native = mutex.slots().native;
  std::condition_variable& native_cond_var = cond_var.slots().native;
  if (deadline == absl::InfiniteFuture()) {
    std::unique_lock<std::mutex> lock(native, std::adopt_lock);
    // NOLINTNEXTLINE(bugprone-spuriously-wake-up-functions): callers loop
    native_cond_var.wait(lock);
    if (REPRISE_PLANTED(wait_gives_lock_back)) return true;
    lock.release();
    return true;
  }
  // Not `wait_until`: libstdc++ reports a waiter that was notified just
  // before its deadline as timed out, and that waiter's notification is lost.
  const timespec until = ToSteady(deadline);
  return pthread_cond_clockwait(native_cond_var.native_handle(),
                                native.native_handle(), CLOCK_MONOTONIC,
                                &until) != ETIMEDOUT;
}

void OsRuntime::Notify(CondVar& cond_var, bool all) {
  if (all) {
    cond_var.slots().native.notify_all();
  } else {
    cond_var.slots().native.notify_one();
  }
}

// Rounds up, so that `Now() >= deadline` once it has passed; saturates.
timespec OsRuntime::ToSteady(absl::Time deadline) const {
  int64_t nanos = absl::ToInt64Nanoseconds(
      absl::Ceil(deadline - start_, absl::Nanoseconds(1)));
  if (nanos > std::numeric_limits<int64_t>::max() - start_nanos_) {
    nanos = std::numeric_limits<int64_t>::max();
  } else {
    nanos += start_nanos_;
  }
  if (nanos < 0) nanos = 0;
  timespec result;
  result.tv_sec = nanos / kNanosPerSecond;
  result.tv_nsec = nanos % kNanosPerSecond;
  return result;
}

Runtime& RealRuntime() {
  // Never destroyed: threads may outlive `main`.
  static OsRuntime* const runtime =
      new OsRuntime({.time = absl::Now(),
                     .steady_ns = SteadyNanos(),
                     .random_bits = UnforeseenBits()});
  return *runtime;
}

}  // namespace reprise
