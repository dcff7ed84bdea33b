// The runtime seam: time, threads, locks, waiting and randomness.
//
// Everything in the agent that reads a clock, starts a thread, locks or waits
// does it through a `Runtime`. `RealRuntime()` maps it to OS threads,
// `std::mutex` and the steady clock; a simulated world maps it to fibers and
// virtual time. Code above this header cannot tell which.
//
// Rules for code on this seam:
//  1. A `Mutex`, a `CondVar`, a `Thread` and a thread's body must not outlive
//     their runtime.
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

// A thread that runs. `Join` or `Detach` must be called, once, before this
// object is destroyed.
class Thread {
 public:
  virtual ~Thread() = default;

  // Blocks until the thread's body has returned.
  virtual void Join() = 0;

  // Leaves the thread to itself. Its body must own everything that it uses.
  virtual void Detach() = 0;
};

// Thread-safe.
class Runtime {
 public:
  virtual ~Runtime() = default;

  // Never goes backwards. Only differences mean anything: the real runtime
  // starts at the wall clock's reading and advances with the steady clock.
  virtual absl::Time Now() = 0;

  virtual void SleepUntil(absl::Time deadline) = 0;

  // Starts a thread that runs `body`, which must not throw. `name` appears in
  // deadlock reports and, cut to 15 characters, in debuggers. Returns null, and
  // destroys `body`, when the system has no thread to give; the caller must go
  // on without it, and may try again later.
  virtual std::unique_ptr<Thread> StartThread(
      std::string name, absl::AnyInvocable<void()> body) = 0;

  // Returns 64 bits that cannot be foreseen: for jitter, and for ids that must
  // not collide.
  virtual uint64_t RandomBits() = 0;

  // Identifies the calling thread among those that run now. The result is only
  // to be compared.
  virtual const void* CurrentThread() = 0;

  // Lets other threads run for a moment, or does nothing. Not for waiting: in a
  // world no time passes by it.
  virtual void Yield() {}
  // How often a thread that has run out of work yields before it goes to sleep:
  // some microseconds in all, since to sleep and to be woken by another CPU
  // costs more. 0 where that costs nothing, as in a world.
  virtual int yields_before_sleep() const { return 0; }

  // False while the process is short of memory: then what would need more of
  // it, such as a new call, should be refused. Cheap.
  virtual bool HasMemory() { return true; }

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
