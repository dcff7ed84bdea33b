// The result of a call: a reply, or why there is none.

#ifndef REPRISE_AGENT_FUTURE_H_
#define REPRISE_AGENT_FUTURE_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/devices.h"
#include "agent/device/stream_set.h"
#include "agent/message.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// A handle to the result, cheap to copy; thread-safe. May outlive the agent
// that made it, not its runtime.
//
//   Future reply = agent->Send("w1", std::move(request));
//   if (!reply.Wait(runtime.Now() + absl::Seconds(1))) reply.Cancel();
//   if (!reply.status().ok()) ...
//
// Errors: DEADLINE_EXCEEDED (the call's timeout), CANCELLED, UNAVAILABLE (the
// peer could not be reached, or the connection broke; the text names the
// cause), RESOURCE_EXHAUSTED (too many calls pending), FAILED_PRECONDITION
// (the agent is not running). When the remote function failed, the text starts
// with "Error on Node <id>: " and the code is the one that it failed with, or
// UNKNOWN. `CallErrorOf` (agent/call_error.h) says who failed and whether a
// retry may help.
class Future {
 public:
  using Result = absl::StatusOr<Message>;
  using Callback = absl::AnyInvocable<void(const Result&)>;
  // Runs a task, once, now or later, on a thread of its choice.
  using Executor = std::function<void(absl::AnyInvocable<void()> task)>;

  bool done() const;

  // Blocks until done. Returns false when `deadline` passed first; the call
  // itself then goes on.
  bool Wait(absl::Time deadline = absl::InfiniteFuture()) const;

  // Block until done.
  const Result& result() const;
  absl::Status status() const;

  // Block until done. Tensors of the reply on GPUs may still be on their way
  // then, on `result()->streams`; these say when they are there, for those that
  // do not use these streams themselves. They return the error of the call, or
  // else that of the GPUs. `devices`: the agent's.
  //
  // Work that is put on `streams` afterwards waits for the tensors, by events:
  // each stream for those of its device, default streams among them. The memory
  // of the tensors counts as used by these streams.
  absl::Status WaitOn(Devices& devices, const StreamSet& streams) const;
  // Blocks until the GPUs are done, too: for the host, and to see their errors.
  absl::Status Synchronize(Devices& devices) const;

  // Runs `callback` once, when done: on a thread of the agent's that runs only
  // callbacks, or at once on the calling thread if already done.
  void Then(Callback callback) const;

  // The same, by `executor`, which is called where the callback above would
  // run. The agent counts the call as active until the executor has returned:
  // it does not wait for a task that the executor runs later.
  void Then(Executor executor, Callback callback) const;

  // Completes the call with CANCELLED unless it is done. A reply that comes
  // later is dropped.
  void Cancel() const;

  static Future Ready(Runtime& runtime, Result result);

 private:
  friend class Promise;
  struct State;
  explicit Future(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

// Done when all are. OK, with an empty message, when all succeeded; else the
// failure of the first one in the list that failed. The results are those of
// `futures`, which are handles. `Cancel` cancels all that are not done.
Future WhenAll(Runtime& runtime, std::vector<Future> futures);

// Done, with its result, as soon as one has succeeded; when none has, with the
// failure of the last to fail. The others go on, unless `Cancel` is called
// while none has succeeded: it cancels all. INVALID_ARGUMENT when there are
// none.
Future WhenAny(Runtime& runtime, std::vector<Future> futures);

// The writing end; one owner completes it exactly once.
class Promise {
 public:
  // Runs a completed future's callbacks somewhere else than on the thread that
  // completes it.
  using Executor = absl::AnyInvocable<void(absl::AnyInvocable<void()>)>;

  // `executor` may be null (callbacks run on the completing thread).
  // `on_cancel` is called by `Future::Cancel` while not done; it must lead to
  // `Complete`, then or later. May be null: then Cancel completes at once.
  Promise(Runtime& runtime, std::shared_ptr<Executor> executor,
          absl::AnyInvocable<void()> on_cancel);
  Promise(Promise&&) = default;
  Promise& operator=(Promise&&) = default;

  Future future() const;

  // Wakes the waiters, then hands callbacks to the executor. `after_callbacks`
  // runs once, after the last of them. Returns false, and does nothing but run
  // `after_callbacks`, when it was completed before.
  bool Complete(Future::Result result,
                absl::AnyInvocable<void()> after_callbacks = nullptr);

 private:
  std::shared_ptr<Future::State> state_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_FUTURE_H_
