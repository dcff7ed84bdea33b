// The serving side of an agent: it takes connections and requests of peers
// within the bounds of agent/server_bounds.h, runs the handler for them on the
// worker pool, peer after peer, and answers.
//
// Control requests (signs of life, cancellations) are handled where they
// arrive, on the transport's thread, and never wait for requests.

#ifndef REPRISE_AGENT_SERVER_SERVER_H_
#define REPRISE_AGENT_SERVER_SERVER_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/activity.h"
#include "agent/group/device_router.h"
#include "agent/group/worker_directory.h"
#include "agent/metrics/metrics.h"
#include "agent/observer.h"
#include "agent/options.h"
#include "agent/pipe/keepalive.h"
#include "agent/request.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/thread_pool.h"
#include "agent/runtime/timer.h"
#include "agent/server/admission.h"
#include "agent/server/idempotency.h"
#include "agent/server/pending_reply.h"
#include "agent/server/server_pipe.h"
#include "agent/server_bounds.h"
#include "agent/transport/arrivals.h"
#include "agent/wire/call_extras.h"
#include "tensorpipe/core/pipe.h"

namespace reprise {

// Thread-safe. Replies that the user still holds keep it alive. After `Close`
// it does not touch anything of the agent's.
class Server final : public PendingReply::Sender,
                     public ServerPipe::Owner,
                     public std::enable_shared_from_this<Server> {
 public:
  struct Options {
    absl::Duration connect_timeout;  // how long a new connection may be silent
    WireLimits limits;
    IdempotentCalls::Options idempotency;
    // When bytes last arrived on a pipe; null: nobody can tell.
    std::shared_ptr<PipeArrivals> arrivals;
    ServerBounds bounds;
    // `AgentOptions::stock_workers_know_later_types`.
    bool stock_workers_know_later_types = false;
    std::string instance = "";  // ours, as a pong says it
    // Gives handlers their streams; may be null. Must outlive the handlers.
    DeviceRouter* router = nullptr;
  };
  // `workers_in_group` names us in errors.
  Server(Runtime& runtime, Timer& timer, ThreadPool& workers,
         std::shared_ptr<Activity> activity, Metrics& metrics,
         Observer* observer, RequestHandler handler,
         const WorkerDirectory& workers_in_group, const Options& options);

  void AddPipe(const std::shared_ptr<tensorpipe::Pipe>& pipe);

  // From now on drops all requests that wait for a thread, and all replies.
  // Waits for replies that are just being handed to their pipes. Runs of calls
  // with idempotency keys are cancelled.
  void Refuse();

  // Closes the pipes in the order in which they were accepted. `Refuse` comes
  // first.
  void Close();

  // Waits until the replies that were given have been written or their
  // connections have failed. Returns false at `deadline`.
  bool WaitUntilWritten(absl::Time deadline);

  int64_t num_pipes();
  // Requests that were dropped: their callers had given up before the handler
  // was to start.
  int64_t num_abandoned() const { return num_abandoned_; }
  // Calls with idempotency keys that were refused, for whatever reason.
  int64_t num_refused_keys() const { return num_refused_keys_; }
  Admission& admission() { return *admission_; }

  void SendReply(ServerPipe& pipe, int64_t call_id,
                 const std::shared_ptr<IdempotentCalls::Run>& run,
                 const ReplyRoute& route,
                 absl::StatusOr<Message> result) override;

 private:
  void OnPipeMessage(std::shared_ptr<ServerPipe> pipe,
                     IncomingMessage message) override;
  void OnPipeFailed(ServerPipe& pipe, const absl::Status& status) override;
  void OnReplyWritten(ServerPipe& pipe, size_t num_bytes) override;

  struct Request {
    std::shared_ptr<ServerPipe> pipe;
    IncomingMessage message;
    absl::Time arrived;
    absl::Time deadline = absl::InfiniteFuture();
    CallExtras extras;  // its deadline counts from the arrival
    Activity::RequestTokens tokens;
  };

  void HandleControl(ServerPipe& pipe, IncomingMessage message);
  absl::Time CheckLives(absl::Time now, bool late);

  // On a worker. Takes of both what it needs.
  void Handle(Request&& request, Admission::Slot&& slot);
  // False: the handler has run or runs for another attempt, or never will;
  // this one was or will be answered.
  bool StartRun(const Request& request,
                std::shared_ptr<IdempotentCalls::Run>& run);
  void RunHandler(Message request, const RequestInfo& info,
                  const std::shared_ptr<PendingReply>& reply);
  // Answers a request whose handler does not run for it.
  void RefuseRequest(ServerPipe& pipe, int64_t call_id,
                     const absl::Status& status);
  // Between them `Close` waits.
  bool StartSending();
  void EndSending();
  void WriteAnswer(ServerPipe& pipe, int64_t call_id,
                   const IdempotentCalls::Answer& answer);
  void Write(ServerPipe& pipe, std::shared_ptr<const EncodedMessage> reply);
  std::shared_ptr<const EncodedMessage> EncodeReply(
      ServerPipe& pipe, int64_t call_id, const ReplyRoute& route,
      absl::StatusOr<Message>& result);
  // An error becomes an exception.
  absl::StatusOr<std::shared_ptr<const EncodedMessage>> EncodeResult(
      ServerPipe& pipe, int64_t call_id, const ReplyRoute& route,
      absl::StatusOr<Message>& result);

  Runtime& runtime_;
  Timer& timer_;
  ThreadPool& workers_;
  const std::shared_ptr<Activity> activity_;
  Metrics& metrics_;
  Observer* const observer_;
  const RequestHandler handler_;
  const WorkerDirectory& workers_in_group_;
  const Options options_;
  const std::shared_ptr<Admission> admission_;
  std::atomic<int64_t> num_abandoned_ = 0;
  std::atomic<int64_t> num_refused_keys_ = 0;
  IdempotentCalls idempotent_;

  Mutex mutex_;
  CondVar idle_;  // replies_being_sent_ or unwritten_ fell to 0
  std::map<uint64_t, std::shared_ptr<ServerPipe>> pipes_
      ABSL_GUARDED_BY(mutex_);
  uint64_t next_pipe_ ABSL_GUARDED_BY(mutex_) = 1;
  int replies_being_sent_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<int> unwritten_ = 0;
  std::atomic<bool> waits_for_written_ = false;
  Keepalive watch_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_SERVER_SERVER_H_
