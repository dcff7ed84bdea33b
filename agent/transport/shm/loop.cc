#include "agent/transport/shm/loop.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <system_error>
#include <thread>

#include "glog/logging.h"
#include "uv.h"

namespace reprise::shm {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

// A busy loop looks at the sockets, too, after so many turns.
constexpr int kTurnsBetweenSockets = 64;

// The slack of this thread's timers, which are up to 50 us late by default.
constexpr unsigned long kTimerSlackNs = 1'000;

int WaitForEvents(int epoll, epoll_event* events, int count,
                  int64_t timeout_ns) {
  const timespec timeout = {timeout_ns / kSecondNs, timeout_ns % kSecondNs};
  const int result = epoll_pwait2(epoll, events, count,
                                  timeout_ns < 0 ? nullptr : &timeout, nullptr);
  if (result >= 0 || errno != ENOSYS) return result;
  constexpr int64_t kMillisecondNs = 1'000'000;
  const int64_t timeout_ms =
      timeout_ns < 0
          ? -1
          : std::min<int64_t>(
                (timeout_ns + kMillisecondNs - 1) / kMillisecondNs, 60'000);
  return epoll_wait(epoll, events, count, static_cast<int>(timeout_ms));
}

// A write that would raise one of these signals fails with an error instead.
void BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGPIPE);
  sigaddset(&signals, SIGXFSZ);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

}  // namespace

Loop::Loop()
    : epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_up_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = 0;  // no watch has this number
  if (!epoll_.is_open() || !wake_up_.is_open() ||
      epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_up_.get(), &event) != 0) {
    throw std::system_error(errno, std::generic_category(),
                            "the transport shm cannot watch its sockets");
  }
  startThread("reprise_shm");
}

Loop::~Loop() = default;

void Loop::Join() {
  is_closed_ = true;
  // This also wakes the loop.
  deferToLoop([] {});
  joinThread();
}

int64_t Loop::NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kSecondNs + now.tv_nsec;
}

void Loop::eventLoop() {
  BlockSignals();
  prctl(PR_SET_TIMERSLACK, kTimerSlackNs);
  int64_t last_work_ns = NowNs();
  int turns = 0;
  while (!is_closed_ || num_retained_ > 0 || num_deferred_ > 0) {
    bool worked = RunDeferred();
    worked |= Poll();
    worked |= RunReady();
    const int64_t now_ns = NowNs();
    worked |= RunTimers(now_ns);
    if (++turns % kTurnsBetweenSockets == 0) {
      const int count = Wait(0);
      Dispatch(count);
      worked |= count > 0;
    }
    if (worked) {
      last_work_ns = now_ns;
      nap_ns_ = kFirstNapNs;
    } else if (now_ns - last_work_ns < kSpinNs) {
      std::this_thread::yield();
    } else if (Sleep(SleepNs(now_ns, last_work_ns))) {
      last_work_ns = NowNs();
    }
  }
}

void Loop::wakeupEventLoopToDeferFunction() {
  ++num_deferred_;
  if (is_asleep_ && is_asleep_.exchange(false)) {
    const uint64_t one = 1;
    static_cast<void>(!write(wake_up_.get(), &one, sizeof(one)));
  }
}

bool Loop::RunDeferred() {
  if (num_deferred_ == 0) return false;
  num_deferred_ -= static_cast<int64_t>(runDeferredFunctionsFromEventLoop());
  return true;
}

bool Loop::Poll() {
  bool worked = false;
  for (Polled* const polled : polled_) {
    if (!polled->HasWork()) continue;
    polled->Work();
    worked = true;
  }
  return worked;
}

bool Loop::RunReady() {
  if (ready_.empty()) return false;
  for (const auto& ready : std::exchange(ready_, {})) ready->OnReady();
  return true;
}

bool Loop::RunTimers(int64_t now_ns) {
  bool worked = false;
  while (!timers_.empty() && timers_.begin()->first.first <= now_ns) {
    const auto node = timers_.extract(timers_.begin());
    node.mapped()();
    worked = true;
  }
  return worked;
}

int64_t Loop::SleepNs(int64_t now_ns, int64_t last_work_ns) {
  int64_t sleep_ns = -1;
  if (!timers_.empty()) {
    sleep_ns = std::max<int64_t>(timers_.begin()->first.first - now_ns, 0);
  }
  if (num_stock_peers_ > 0) {
    if (sleep_ns < 0 || nap_ns_ < sleep_ns) sleep_ns = nap_ns_;
    const int64_t longest =
        now_ns - last_work_ns < kSecondNs ? kLongestNapNs : kIdleNapNs;
    nap_ns_ = std::min(nap_ns_ * 3 / 2, longest);
  }
  return sleep_ns;
}

bool Loop::Sleep(int64_t timeout_ns) {
  is_asleep_ = true;
  for (Polled* const polled : polled_) polled->SetAsleep(true);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const bool has_work =
      num_deferred_ > 0 ||
      std::any_of(polled_.begin(), polled_.end(),
                  [](const Polled* polled) { return polled->HasWork(); });
  const int count = Wait(has_work ? 0 : timeout_ns);
  // The flags are cleared before any work is done: from here on, nobody needs
  // to wake the loop.
  is_asleep_ = false;
  for (Polled* const polled : polled_) polled->SetAsleep(false);
  Dispatch(count);
  return count > 0 || has_work;
}

int Loop::Wait(int64_t timeout_ns) {
  return WaitForEvents(epoll_.get(), events_.data(),
                       static_cast<int>(events_.size()), timeout_ns);
}

void Loop::Dispatch(int count) {
  for (int i = 0; i < count; ++i) {
    const uint64_t number = events_[i].data.u64;
    if (number == 0) {
      uint64_t value = 0;
      static_cast<void>(!read(wake_up_.get(), &value, sizeof(value)));
      continue;
    }
    const auto watch = watches_.find(number);
    if (watch == watches_.end()) continue;  // removed meanwhile
    const std::function<void(uint32_t)> done = watch->second;
    done(events_[i].events);
  }
}

int Loop::Watch(int fd, uint32_t events, std::function<void(uint32_t)> done,
                uint64_t& watch) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = ++last_number_;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return uv_translate_sys_error(errno);
  }
  watch = last_number_;
  watches_.emplace(watch, std::move(done));
  return 0;
}

void Loop::Unwatch(int fd, uint64_t watch) {
  if (watches_.erase(watch) == 0) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

Loop::TimerId Loop::AddTimer(int64_t after_ns, std::function<void()> done) {
  const TimerId timer = {NowNs() + after_ns, ++last_number_};
  timers_.emplace(std::pair(timer.deadline_ns, timer.number), std::move(done));
  return timer;
}

void Loop::CancelTimer(TimerId& timer) {
  timers_.erase({timer.deadline_ns, timer.number});
  timer = {};
}

void Loop::RemovePolled(Polled* polled) {
  polled_.erase(std::find(polled_.begin(), polled_.end(), polled));
}

}  // namespace reprise::shm
