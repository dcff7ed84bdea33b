// The runtime seam: time, threads, locks, waiting and randomness.
//
// Everything in the agent that reads a clock, starts a thread, locks or waits
// does it through a `Runtime`. `RealRuntime()` maps it to OS threads,
// `std::mutex` and the steady clock; a simulated world maps it to fibers and
// virtual time. Code above this header cannot tell which.
//
// Rules for code on this seam:
//  1. A `Mutex`, `CondVar` or `Thread` must not outlive its runtime.
//  2. No `thread_local` and no `std::this_thread`: fibers share them.
//  3. No lock that a TensorPipe callback takes is held while calling
//     TensorPipe.
//  4. Every wait has a deadline; `absl::InfiniteFuture()` must be asked for.

#ifndef REPRISE_AGENT_RUNTIME_RUNTIME_H_
#define REPRISE_AGENT_RUNTIME_RUNTIME_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"

namespace reprise {

class CondVar;
class Mutex;

// A running thread. `Join` must be called, once, before it is destroyed; it
// blocks until the thread's body has returned.
class Thread {
 public:
  virtual ~Thread() = default;
  virtual void Join() = 0;
};

// Thread-safe.
class Runtime {
 public:
  virtual ~Runtime() = default;

  // Never goes backwards. Only differences mean anything: the real runtime
  // starts at the wall clock's reading and advances with the steady clock.
  virtual absl::Time Now() = 0;

  virtual void SleepUntil(absl::Time deadline) = 0;

  // `name` appears in deadlock reports and, cut to 15 characters, in
  // debuggers. `body` must not throw.
  virtual std::unique_ptr<Thread> StartThread(
      std::string name, absl::AnyInvocable<void()> body) = 0;

  // 64 bits that nobody foresees: for jitter, and for ids that must not meet.
  virtual uint64_t RandomBits() = 0;

  // Names the calling thread among those that run now; only to be compared.
  virtual const void* CurrentThread() = 0;

 private:
  friend class CondVar;
  friend class Mutex;

  virtual void Lock(Mutex& mutex) = 0;
  virtual void Unlock(Mutex& mutex) = 0;
  // Returns false when `deadline` passed without a notification. May wake
  // spuriously (and then returns true).
  virtual bool Wait(CondVar& cond_var, Mutex& mutex, absl::Time deadline) = 0;
  virtual void Notify(CondVar& cond_var, bool all) = 0;
};

// OS threads and the steady clock. Lives as long as the process.
Runtime& RealRuntime();

}  // namespace reprise

#endif  // REPRISE_AGENT_RUNTIME_RUNTIME_H_
