// The serving side: runs the handler for what peers ask, and answers.

#ifndef REPRISE_AGENT_SERVER_H_
#define REPRISE_AGENT_SERVER_H_

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
#include "agent/agent.h"
#include "agent/metrics.h"
#include "agent/observer.h"
#include "agent/options.h"
#include "agent/pending_reply.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/thread_pool.h"
#include "agent/runtime/timer.h"
#include "agent/server_pipe.h"
#include "agent/worker_directory.h"
#include "tensorpipe/core/pipe.h"

namespace reprise {

// Thread-safe. Replies that the user still holds keep it alive; after `Close`
// it touches nothing of the agent's.
class Server final : public PendingReply::Sender,
                     public ServerPipe::Owner,
                     public std::enable_shared_from_this<Server> {
 public:
  // `workers_in_group` names us in errors. `connect_timeout`: how long a new
  // connection may be silent.
  Server(Runtime& runtime, Timer& timer, ThreadPool& workers,
         std::shared_ptr<Activity> activity, Metrics& metrics,
         Observer* observer, RequestHandler handler,
         const WorkerDirectory& workers_in_group,
         absl::Duration connect_timeout);

  void AddPipe(std::shared_ptr<tensorpipe::Pipe> pipe);

  // Drops requests that wait for a worker, and all replies, from now on; waits
  // for replies that are just being handed to their pipes.
  void Refuse();

  // Closes the pipes in the order in which they were accepted. `Refuse` comes
  // first.
  void Close();

  // Waits until the replies that were given have left, or their connections
  // have failed. False at `deadline`.
  bool WaitUntilWritten(absl::Time deadline);

  int64_t num_pipes();

  void SendReply(ServerPipe& pipe, int64_t call_id,
                 absl::StatusOr<Message> result) override;

 private:
  void OnPipeMessage(std::shared_ptr<ServerPipe> pipe,
                     IncomingMessage message) override;
  void OnPipeFailed(ServerPipe& pipe, const absl::Status& status) override;
  void OnReplyWritten() override;

  // On a worker.
  void Handle(std::shared_ptr<ServerPipe> pipe, IncomingMessage message,
              Activity::Token reply_token);
  void RunHandler(Message request, const RequestInfo& info,
                  const std::shared_ptr<PendingReply>& reply);
  std::shared_ptr<const EncodedMessage> EncodeReply(
      int64_t call_id, absl::StatusOr<Message>& result);

  Runtime& runtime_;
  Timer& timer_;
  ThreadPool& workers_;
  const std::shared_ptr<Activity> activity_;
  Metrics& metrics_;
  Observer* const observer_;
  const RequestHandler handler_;
  const WorkerDirectory& workers_in_group_;
  const absl::Duration connect_timeout_;

  Mutex mutex_;
  CondVar idle_;  // replies_being_sent_ or unwritten_ fell to 0
  std::map<uint64_t, std::shared_ptr<ServerPipe>> pipes_
      ABSL_GUARDED_BY(mutex_);
  uint64_t next_pipe_ ABSL_GUARDED_BY(mutex_) = 1;
  int replies_being_sent_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<int> unwritten_ = 0;
  std::atomic<bool> waits_for_written_ = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_SERVER_H_
