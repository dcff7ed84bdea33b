// What a server remembers of calls with an idempotency key, so that each runs
// its handler once.
//
// A key is remembered until there are too many, oldest first, or for so long
// after its call was answered; calls that run are never forgotten. The reply
// is dropped earlier when the replies take too many bytes: a resend is then
// told that the call ran and its reply is gone. It does not outlive the agent.

#ifndef REPRISE_AGENT_SERVER_IDEMPOTENCY_H_
#define REPRISE_AGENT_SERVER_IDEMPOTENCY_H_

#include <cstddef>
#include <cstdint>
#include <deque>
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
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/server/server_pipe.h"
#include "agent/wire/message_codec.h"

namespace reprise {

// Thread-safe.
class IdempotentCalls {
 public:
  struct Options {
    size_t max_calls;
    size_t max_bytes;  // of replies
    absl::Duration memory;
  };
  // By the caller's instance.
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
  // when the server has ended. A broken connection does not cancel it, because
  // the call may be sent again.
  class Run final : public CancelSource {
   public:
    Run(Runtime& runtime, Key key)
        : key_(std::move(key)), mutex_(runtime, "Run") {}
    bool IsCancelled(int64_t call_id, absl::Time deadline) override;

   private:
    friend class IdempotentCalls;
    const Key key_;
    Mutex mutex_;
    std::vector<Attempt> attempts_ ABSL_GUARDED_BY(mutex_);
    bool done_ ABSL_GUARDED_BY(mutex_) = false;
    bool has_ended_ ABSL_GUARDED_BY(mutex_) = false;  // the server has
    Answer answer_ ABSL_GUARDED_BY(mutex_);
    size_t bytes_ = 0;    // under the table's lock
    absl::Time done_at_;  // under the table's lock
  };

  IdempotentCalls(Runtime& runtime, Options options);

  struct Begun {
    std::shared_ptr<Run> run;  // not null: run the handler, then `Finish`
    // Otherwise the answer, or, when that is null too, it will come.
    Answer answer;
  };
  // RESOURCE_EXHAUSTED when too many run, FAILED_PRECONDITION when it ran and
  // the reply is gone.
  absl::StatusOr<Begun> Begin(Key key, Attempt attempt);

  // Returns whom to answer.
  std::vector<Attempt> Finish(const std::shared_ptr<Run>& run, Answer answer);

  // Forgets everything, and cancels what runs.
  void Clear();
  size_t size();

 private:
  using Runs = std::map<Key, std::shared_ptr<Run>>;
  using Dropped = std::vector<std::shared_ptr<Run>>;
  // What goes, goes with no lock held.
  void Evict(absl::Time now, Dropped& dropped, std::vector<Answer>& answers)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Runtime& runtime_;
  const Options options_;
  Mutex mutex_;
  Runs runs_ ABSL_GUARDED_BY(mutex_);
  // Answered, oldest first; and those of them whose replies are kept.
  std::deque<std::shared_ptr<Run>> done_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<Run>> kept_ ABSL_GUARDED_BY(mutex_);
  size_t kept_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_SERVER_IDEMPOTENCY_H_
