// The thread on which channels learn that work of a GPU is done.
//
// The driver calls back on a thread of its own, where nobody may call the
// driver. What a channel does next calls it, or calls TensorPipe, which may. So
// the driver's callback only hands over to this thread, which belongs to the
// runtime and is therefore seen by a simulated world. Each context of a channel
// has one; it is started when there is something to wait for.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_CALLBACK_THREAD_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_CALLBACK_THREAD_H_

#include <deque>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/device/driver.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Thread-safe. Must be joined before it is destroyed.
class CallbackThread {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  // Between two looks of `Poll`.
  static constexpr absl::Duration kPollInterval = absl::Milliseconds(1);

  explicit CallbackThread(Runtime& runtime);
  Runtime& runtime() { return runtime_; }

  // Calls `done` on this thread, once, when the work that `stream` has is done
  // or has failed, with its status. If it returns an error, `done` is destroyed
  // without being called, and the stream has been synchronised: its work is
  // done as far as the driver can tell.
  absl::Status WhenDone(GpuDriver& driver, GpuStream stream, Done done);

  // Calls `look` on this thread, at once and then after each `kPollInterval`,
  // until it returns true. False, and nothing is called, when there is no
  // thread to be had.
  bool Poll(absl::AnyInvocable<bool()> look);

  // Waits until everything that was asked for has come about, and ends the
  // thread. Afterwards `WhenDone` returns UNAVAILABLE.
  void Join();

 private:
  // What the driver's callbacks keep.
  struct State {
    explicit State(Runtime& runtime)
        : mutex(runtime, "cuda_callbacks"), changed(runtime, "cuda_callback") {}
    Mutex mutex;
    CondVar changed;
    std::deque<absl::AnyInvocable<void()>> ready ABSL_GUARDED_BY(mutex);
    std::vector<absl::AnyInvocable<bool()>> looks ABSL_GUARDED_BY(mutex);
    // Callbacks that the driver owes, and calls that are under way.
    int num_pending ABSL_GUARDED_BY(mutex) = 0;
    bool is_joining ABSL_GUARDED_BY(mutex) = false;
  };

  // Counts one more that is pending. False when there is no thread.
  bool Begin();
  static void Run(Runtime& runtime, State& state);
  static void Look(State& state);

  Runtime& runtime_;
  const std::shared_ptr<State> state_;
  Mutex start_mutex_;
  std::unique_ptr<Thread> thread_ ABSL_GUARDED_BY(start_mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_CALLBACK_THREAD_H_
