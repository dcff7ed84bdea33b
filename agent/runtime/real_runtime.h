// What `RealRuntime()` is. Everything that runs in a process of its own uses
// that function; this class is for a simulator that has several machines in one
// process, whose clocks begin at other times, and that stands in for the
// functions of libc that are called here.

#ifndef REPRISE_AGENT_RUNTIME_REAL_RUNTIME_H_
#define REPRISE_AGENT_RUNTIME_REAL_RUNTIME_H_

#include <atomic>
#include <cstdint>
#include <ctime>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// OS threads, `std::mutex` and the steady clock. Thread-safe.
class OsRuntime : public Runtime {
 public:
  // Where its time and its random numbers begin.
  struct Origin {
    absl::Time time;        // what `Now` returns when the steady clock
    int64_t steady_ns = 0;  // (CLOCK_MONOTONIC) reads this
    uint64_t random_bits = 0;
  };
  explicit OsRuntime(const Origin& origin);

  absl::Time Now() override;
  void SleepUntil(absl::Time deadline) override;
  std::unique_ptr<Thread> StartThread(std::string name,
                                      absl::AnyInvocable<void()> body) override;
  uint64_t RandomBits() override;
  const void* CurrentThread() override;
  void Yield() override;
  int yields_before_sleep() const override;
  bool HasMemory() override;

 protected:
  void Lock(Mutex& mutex) override;
  void Unlock(Mutex& mutex) override;
  bool Wait(CondVar& cond_var, Mutex& mutex, absl::Time deadline) override;
  void Notify(CondVar& cond_var, bool all) override;

 private:
  timespec ToSteady(absl::Time deadline) const;

  const absl::Time start_;
  const int64_t start_nanos_;
  std::atomic<uint64_t> random_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_RUNTIME_REAL_RUNTIME_H_
