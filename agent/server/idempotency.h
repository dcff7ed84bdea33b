// What a server remembers of calls with an idempotency key, so that each runs
// its handler at most once.
//
// A key is remembered until its caller or all callers have too many, oldest
// first, or for so long after its call was answered; keys of calls that run are
// never forgotten. The reply is dropped earlier when replies take too many
// bytes: a resend is then told that the call ran and its reply is gone. When
// all callers together have too many, the caller with the most loses one.
//
// A key that may have been forgotten is refused. Callers number their keys, and
// of each caller's agent the highest number that was forgotten is kept: an
// unknown key with a number up to that may have run. So may one that was first
// sent to another memory, that of an earlier agent of our name. Callers of an
// older version do not number their keys, and theirs run again once forgotten.
//
// None of it outlives the agent.

#ifndef REPRISE_AGENT_SERVER_IDEMPOTENCY_H_
#define REPRISE_AGENT_SERVER_IDEMPOTENCY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/request.h"
#include "agent/runtime/fifo.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/server/server_pipe.h"
#include "agent/wire/call_extras.h"
#include "agent/wire/message_codec.h"

namespace reprise {

// Thread-safe.
class IdempotentCalls {
 public:
  struct Options {
    // Of each caller, by the name that it claims, and of all together.
    size_t max_calls_per_caller;
    size_t max_calls;
    // The same for the bytes of replies.
    size_t max_bytes_per_caller;
    size_t max_bytes;
    absl::Duration memory;
    uint64_t id = 0;  // of this memory, as it is published
  };
  // By the caller's agent.
  using Key = std::pair<uint64_t, std::string>;
  struct Attempt {
    std::shared_ptr<ServerPipe> pipe;
    int64_t call_id = 0;
  };
  struct Answer {
    std::shared_ptr<const EncodedMessage> encoded;
    // For an observer: may be null.
    std::shared_ptr<const absl::StatusOr<Message>> shown;
  };

  // One execution of a handler. It is cancelled as soon as one attempt was, and
  // when the server stops or has ended. A broken connection does not cancel it,
  // because the call may be sent again.
  class Run final : public CancelSource {
   public:
    Run(Runtime& runtime, Key key, std::string caller, uint64_t number,
        std::shared_ptr<const std::atomic<bool>> stopped)
        : key_(std::move(key)),
          caller_name_(std::move(caller)),
          number_(number),
          stopped_(std::move(stopped)),
          mutex_(runtime, "Run") {}
    bool IsCancelled(int64_t call_id, absl::Time deadline) override;

   private:
    friend class IdempotentCalls;
    const Key key_;
    const std::string caller_name_;
    const uint64_t number_;
    const std::shared_ptr<const std::atomic<bool>> stopped_;
    Mutex mutex_;
    std::vector<Attempt> attempts_ ABSL_GUARDED_BY(mutex_);
    bool done_ ABSL_GUARDED_BY(mutex_) = false;
    bool has_ended_ ABSL_GUARDED_BY(mutex_) = false;  // the server has
    Answer answer_ ABSL_GUARDED_BY(mutex_);
    // Under the table's lock:
    size_t bytes_ = 0;
    absl::Time done_at_;
    bool is_kept_ = false;  // its reply is
    // Its places among the answered runs of all callers and of its own, and
    // among those of its caller whose replies are kept.
    std::list<std::shared_ptr<Run>>::iterator in_all_;
    std::list<std::shared_ptr<Run>>::iterator in_own_;
    std::list<std::shared_ptr<Run>>::iterator in_kept_;
  };

  IdempotentCalls(Runtime& runtime, Options options);

  struct Begun {
    std::shared_ptr<Run> run;  // not null: run the handler, then `Finish`
    // Otherwise the answer, or, when that is null too, it will come.
    Answer answer;
  };
  // `extras` has a key; `caller` is the name that the caller claims. Errors are
  // refusals: RESOURCE_EXHAUSTED when too many run, FAILED_PRECONDITION when it
  // ran and the reply is gone, or may have run, and UNAVAILABLE for the first
  // attempt of a caller that takes us for another agent.
  absl::StatusOr<Begun> Begin(const std::string& caller,
                              const CallExtras& extras, Attempt attempt);

  // Returns whom to answer. `remember`: false forgets the key, as if the call
  // had never come.
  std::vector<Attempt> Finish(const std::shared_ptr<Run>& run, Answer answer,
                              bool remember);

  // From now on all runs are cancelled.
  void Stop() { *stopped_ = true; }

  // Forgets everything, and cancels what runs.
  void Clear();
  size_t size();

 private:
  using Runs = std::map<Key, std::shared_ptr<Run>>;
  using RunList = std::list<std::shared_ptr<Run>>;
  // What is kept of a caller while it has any run.
  struct Caller {
    size_t num_calls = 0;
    size_t num_running = 0;
    size_t kept_bytes = 0;
    RunList done;  // answered, oldest first
    RunList kept;  // of these, those whose replies are kept
  };
  using Callers = std::map<std::string, Caller>;
  // What goes, goes with no lock held.
  struct Dropped {
    std::vector<std::shared_ptr<Run>> runs;
    std::vector<Answer> answers;
  };

  absl::Status CheckNew(const std::string& caller, const CallExtras& extras)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Evict(absl::Time now, const std::string& caller, Dropped& dropped)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(std::shared_ptr<Run> run, Dropped& dropped)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropReply(Run& run, Caller& caller, Dropped& dropped)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteForgotten(uint64_t instance, uint64_t number)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Runtime& runtime_;
  const Options options_;
  const std::shared_ptr<std::atomic<bool>> stopped_;
  Mutex mutex_;
  Runs runs_ ABSL_GUARDED_BY(mutex_);
  Callers callers_ ABSL_GUARDED_BY(mutex_);
  RunList done_ ABSL_GUARDED_BY(mutex_);  // answered, oldest first
  size_t num_running_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t kept_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // The highest number that was forgotten, by the caller's agent; and these
  // agents, the first to lose a key first.
  std::map<uint64_t, uint64_t> forgotten_ ABSL_GUARDED_BY(mutex_);
  Fifo<uint64_t> forgotten_order_ ABSL_GUARDED_BY(mutex_);
  // Whether an entry of `forgotten_` was itself forgotten.
  bool forgot_an_agent_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_SERVER_IDEMPOTENCY_H_
