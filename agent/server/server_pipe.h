// A connection that a peer has opened to call us.
//
// It reads requests one after another and hands them to its owner, and writes
// replies. While too many replies wait to be written, because the peer does not
// take them, nothing more is read: what the peer sends stays in its own socket.

#ifndef REPRISE_AGENT_SERVER_SERVER_PIPE_H_
#define REPRISE_AGENT_SERVER_SERVER_PIPE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/activity.h"
#include "agent/metrics/metrics.h"
#include "agent/pipe/message_reader.h"
#include "agent/request.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/timer.h"
#include "agent/server/admission.h"
#include "agent/transport/arrivals.h"
#include "agent/wire/message_codec.h"
#include "tensorpipe/core/pipe.h"

namespace reprise {

// Thread-safe. Lives in a shared_ptr. Calls that wait for their replies keep it
// alive, but not its connection.
class ServerPipe final : public MessageSink,
                         public CancelSource,
                         public std::enable_shared_from_this<ServerPipe> {
 public:
  // Called with no lock held, on any thread. Must outlive the pipe's callbacks.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnPipeMessage(std::shared_ptr<ServerPipe> pipe,
                               IncomingMessage message) = 0;
    // Once. `status` is UNAVAILABLE "connection from w1 failed: ...".
    virtual void OnPipeFailed(ServerPipe& pipe, const absl::Status& status) = 0;
    // Once for each `Write` of so many bytes: the message has left, or never
    // will.
    virtual void OnReplyWritten(ServerPipe& pipe, size_t num_bytes) = 0;
  };

  // `number` counts the pipes that an agent has accepted. `arrivals` tells when
  // bytes last arrived, and is null when nobody can tell. `activity`, `metrics`
  // and `limits` must outlive the pipe's callbacks. `admitted` counts this
  // connection. Nothing is read while `max_unwritten` replies are unwritten.
  ServerPipe(Runtime& runtime, Timer& timer, Owner& owner, Activity& activity,
             Metrics& metrics, uint64_t number,
             std::shared_ptr<tensorpipe::Pipe> pipe, const WireLimits& limits,
             std::shared_ptr<PipeArrivals> arrivals,
             Admission::PeerPtr admitted, size_t max_unwritten);

  // The name that the peer claims, or "?" when that cannot be a worker's.
  static std::string PeerName(tensorpipe::Pipe& pipe);

  uint64_t number() const { return number_; }
  const std::string& peer_name() const { return peer_name_; }
  const Admission::PeerPtr& admitted() const { return admitted_; }
  PeerCounters& counters() const { return counters_; }

  // Begins to read. Fails when no byte arrives for `connect_timeout` before the
  // first message begins: TensorPipe does not notice when a client dies while
  // it connects.
  void Start(absl::Duration connect_timeout);

  // The peer said that it lets no `bound` pass without a byte, and expects the
  // same of us. Returns after what time to check, at the latest.
  absl::Duration ExpectSigns(absl::Duration bound);
  // Fails when no byte has arrived for twice the bound. Sends a sign of life
  // while a message arrives. Returns when to check again, at the latest.
  // `late`: as in `Keepalive`.
  absl::Time CheckLiveness(absl::Time now, bool late);

  // A request came; its call is pending until `Write` gets the reply or `Drop`
  // is called. `wants_reply_id`: `CallExtras::wants_reply_id`.
  void StartCall(int64_t call_id, bool wants_reply_id);
  void Drop(int64_t call_id);
  // The peer cancelled this call. Nothing happens unless it is pending.
  void CancelCall(int64_t call_id);
  bool WasCancelled(int64_t call_id);
  // Also when its deadline has passed, or the pipe is closed.
  bool IsCancelled(int64_t call_id, absl::Time deadline) override;

  // The peer has shown that it survives tensors of types that PyTorch 1.13 does
  // not have: it is no stock worker, or has sent such a tensor.
  void NoteKnowsLaterTypes() { knows_later_types_ = true; }
  bool knows_later_types() const { return knows_later_types_; }

  // FAILED_PRECONDITION unless there are channels for the message's tensors.
  absl::Status CheckChannels(const EncodedMessage& message);

  // The message, which has passed that, is dropped when the pipe is closed.
  void Write(std::shared_ptr<const EncodedMessage> message);

  // Closes the pipe and tells the owner. Does nothing to a closed pipe.
  void Fail(const std::string& cause);

  // Closes the pipe. Returns false when it was closed before.
  bool Close();

  void OnMessageBegins() override;
  bool HasChannel(const tensorpipe::Device& theirs,
                  const tensorpipe::Device& ours) override;
  bool ReadsOn() override;
  void OnMessage(IncomingMessage message) override;
  void OnReadFailed(const std::string& cause) override;

 private:
  void ExpectFirstMessage(absl::Time deadline, absl::Duration connect_timeout);
  void OnNoFirstMessage(absl::Duration connect_timeout);
  void NoteReceived();
  // How long ago a byte last arrived.
  absl::Duration SinceArrival() const;
  void WriteSign(tensorpipe::Pipe& pipe);
  void EndWrite(size_t num_bytes);

  Runtime& runtime_;
  Timer& timer_;
  Owner& owner_;
  const WireLimits& limits_;
  const Admission::PeerPtr admitted_;
  const size_t max_unwritten_;
  const uint64_t number_;
  const std::string peer_name_;
  const std::shared_ptr<PipeArrivals> arrivals_;
  const uint64_t arrivals_number_;  // of the pipe, in `arrivals_`
  Activity& activity_;
  PeerCounters& counters_;
  std::atomic<bool> established_ = false;
  std::atomic<bool> any_cancelled_ = false;
  std::atomic<bool> is_receiving_ = false;  // a message
  std::atomic<bool> knows_later_types_ = false;
  // When a message last began to arrive, or arrived as a whole.
  std::atomic<int64_t> last_received_ns_ = 0;
  std::atomic<int> num_unwritten_signs_ = 0;

  Mutex mutex_;
  std::shared_ptr<tensorpipe::Pipe> pipe_ ABSL_GUARDED_BY(mutex_);
  std::optional<Timer::Key> expectation_ ABSL_GUARDED_BY(mutex_);
  absl::Duration bound_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
  // When the last sign of life was sent that nobody had asked for.
  absl::Time last_sign_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  struct PendingCall {
    bool is_cancelled = false;
    bool wants_reply_id = false;
  };
  absl::flat_hash_map<int64_t, PendingCall> calls_ ABSL_GUARDED_BY(mutex_);
  size_t num_unwritten_ ABSL_GUARDED_BY(mutex_) = 0;
  // Whether the next message waits until replies were written.
  bool holds_reading_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_SERVER_SERVER_PIPE_H_
