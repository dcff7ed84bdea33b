// Stands between the server and the user's handler: it lets requests wait until
// the agent serves, refuses them while it drains, and knows the deadline of the
// request that a thread is handling.
//
//   paused --Serve--> serving <--Serve-- draining
//                        `------Drain------^

#ifndef REPRISE_AGENT_SERVER_HANDLER_GATE_H_
#define REPRISE_AGENT_SERVER_HANDLER_GATE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/activity.h"
#include "agent/message.h"
#include "agent/metrics/metrics.h"
#include "agent/request.h"
#include "agent/runtime/fifo.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/thread_pool.h"

namespace reprise {

// Thread-safe. Lives in a shared_ptr, which replies that the user still holds
// keep. Calls of `Handle` come from threads of `workers`, `num_threads` at a
// time.
class HandlerGate final : public std::enable_shared_from_this<HandlerGate> {
 public:
  struct Options {
    std::string name;  // of our worker, for the texts of errors
    int num_threads = 1;
    bool paused = false;
  };

  // `metrics` must live until the last handler has returned.
  HandlerGate(Runtime& runtime, ThreadPool& workers,
              std::shared_ptr<Activity> activity, Metrics& metrics,
              RequestHandler handler, Options options);

  // A `RequestHandler`.
  void Handle(Message request, const RequestInfo& info, Reply reply);

  // From now on requests are handled; those that waited are queued at once.
  void Serve();

  // From now on requests are refused with UNAVAILABLE, and those that wait too.
  // Returns true when no request that was handled before is unanswered, and
  // false when `deadline` passed first.
  bool Drain(absl::Time deadline);

  // Drops the requests that wait, and all that come.
  void Close();

  // Of the request that the calling thread handles; infinite if it handles none
  // or if its caller did not say.
  absl::Time CurrentDeadline() const;

  // Handled, and not answered.
  int64_t num_unanswered() const { return num_unanswered_; }
  // Waiting for `Serve`.
  int64_t num_waiting();

 private:
  enum class State { kPaused, kServing, kDraining, kClosed };
  struct Waiting {
    Message request;
    RequestInfo info;
    Reply reply;
  };
  // A thread that handles a request which has a deadline. Only that thread
  // looks for its own name, so the order of the two does not matter.
  struct Slot {
    std::atomic<const void*> thread = nullptr;
    std::atomic<int64_t> deadline_ns = 0;
  };
  class DeadlineScope;
  class TimeScope;

  void Run(Message request, const RequestInfo& info, Reply reply);
  void Answered();
  absl::Status Refusal() const;

  Runtime& runtime_;
  ThreadPool& workers_;
  const std::shared_ptr<Activity> activity_;
  Metrics& metrics_;
  const RequestHandler handler_;
  const Options options_;
  std::vector<Slot> slots_;
  std::atomic<State> state_;
  std::atomic<int64_t> num_unanswered_ = 0;

  Mutex mutex_;
  CondVar answered_;  // num_unanswered_ fell to 0
  Fifo<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_SERVER_HANDLER_GATE_H_
