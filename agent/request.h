// The server's side of a call as a user sees it: the handler of requests, what
// it is told of a request, and the means to answer.
//
// The agent owns the handler and calls it on its worker threads; the handler
// owns the `Reply` that it is given, and answers exactly once.

#ifndef REPRISE_AGENT_REQUEST_H_
#define REPRISE_AGENT_REQUEST_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/call_options.h"
#include "agent/message.h"

namespace reprise {

// Knows whether the callers of requests still wait. Thread-safe.
class CancelSource {
 public:
  virtual ~CancelSource() = default;
  virtual bool IsCancelled(int64_t call_id, absl::Time deadline) = 0;
};

struct RequestInfo {
  std::string caller;  // the name that the peer claims
  int64_t call_id = 0;
  // When the caller gives up, by our clock; infinite if it did not say. A call
  // with an idempotency key has no deadline, because it may be sent again.
  absl::Time deadline = absl::InfiniteFuture();
  std::shared_ptr<CancelSource> source = nullptr;  // may be null
  // When the request had arrived whole, by our clock.
  absl::Time arrived = absl::InfinitePast();

  // Whether nobody waits for the reply any more: the call was cancelled, its
  // deadline has passed, or its connection broke. A handler that works for long
  // should ask now and then; what it then returns does not matter.
  bool IsCancelled() const {
    return source != nullptr && source->IsCancelled(call_id, deadline);
  }

  // `options` for a call that serves this request: it ends with the request at
  // the latest. Calls that the handler makes on its own thread do so anyway;
  // this is for those that it makes later, from callbacks and other threads.
  CallOptions Inherit(CallOptions options = {}) const {
    options.deadline = std::min(options.deadline, deadline);
    return options;
  }
};

// Answers one request. Call it once, on any thread, before or after the handler
// returns. A `Reply` that is destroyed unused answers with an error.
class Reply {
 public:
  using Send = absl::AnyInvocable<void(absl::StatusOr<Message>)>;
  explicit Reply(Send send);
  Reply(Reply&&) = default;
  Reply& operator=(Reply&&) = default;
  ~Reply();

  void operator()(absl::StatusOr<Message> result);

  // The error that a `Reply` which is destroyed unused answers with.
  static absl::Status UnansweredError();
  static bool IsUnanswered(const absl::Status& status);

 private:
  Send send_;
};

// For a handler that answers a call with an idempotency key with an error:
// marks that error so that the key is forgotten, and the next attempt with it
// runs the handler again. For an error after which nothing was done, such as
// UNAVAILABLE of a database that could not be reached. An error without the
// mark is the result of the call and is remembered like a reply.
absl::Status MayRunAgain(absl::Status error);
bool IsMayRunAgain(const absl::Status& status);

// Runs on the worker pool, several at a time, and may block and make calls. An
// exception that leaves it becomes an error reply.
using RequestHandler =
    std::function<void(Message request, const RequestInfo& info, Reply reply)>;

// Makes a handler of a function that answers by returning.
RequestHandler Blocking(
    std::function<absl::StatusOr<Message>(Message, const RequestInfo&)>
        function);

}  // namespace reprise

#endif  // REPRISE_AGENT_REQUEST_H_
