// A connection to a peer for our calls to it.
//
//   opening --Open, handshake--> open --any failure--> failed
//
// While it opens, messages wait in a queue. The first message is a ping, and
// the queue is written once the ping has left, which needs the peer's answer to
// TensorPipe's handshake: so no call of a pipe that fails before has reached
// the peer. Its owner may then replace the pipe by another one, to another
// address, which takes over the queue. A peer that does not know pings is
// written to at once, or, by an agent with GPUs, as soon as its answer says
// between which devices there are channels. A failed pipe never recovers: its
// owner forgets it and makes another one.
//
// The pipe is established once the peer has answered TensorPipe's handshake.
// From then on it lives as long as bytes arrive from the peer: the peer is
// asked for a sign of life now and then, if it knows how to give one, and the
// pipe fails when nothing arrives (agent/pipe/keepalive.h).

#ifndef REPRISE_AGENT_CLIENT_CLIENT_PIPE_H_
#define REPRISE_AGENT_CLIENT_CLIENT_PIPE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/activity.h"
#include "agent/client/sent_keys.h"
#include "agent/device/caching_allocator.h"
#include "agent/group/worker_directory.h"
#include "agent/metrics/metrics.h"
#include "agent/pipe/message_reader.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/timer.h"
#include "agent/transport/arrivals.h"
#include "agent/wire/call_extras.h"
#include "agent/wire/message_codec.h"
#include "tensorpipe/core/pipe.h"

namespace reprise {

// A request that is to be written.
struct OutgoingCall {
  std::shared_ptr<const EncodedMessage> message;
  absl::Time deadline = absl::InfiniteFuture();
  std::string idempotency_key;
  bool wants_reply_id = false;  // if the peer can say it
  // Called at most once, when the message has left. Must be quick.
  std::function<void()> on_written;
};

// Thread-safe. Lives in a shared_ptr; the callbacks of its TensorPipe pipe keep
// it alive until it has failed or was closed.
class ClientPipe final : public MessageSink,
                         public std::enable_shared_from_this<ClientPipe> {
 public:
  // Called with no lock held, on any thread. Must outlive the pipe's callbacks.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnPipeEstablished(ClientPipe& pipe) = 0;
    virtual void OnPipeMessage(ClientPipe& pipe, IncomingMessage message) = 0;
    // Where the tensors of the reply to this call go; null: where the limits
    // say.
    virtual std::shared_ptr<CpuAllocator> ClaimMemory(ClientPipe& pipe,
                                                      int64_t call_id) = 0;
    // The call was not written and never will be.
    virtual void OnCallRefused(ClientPipe& pipe, int64_t call_id,
                               const absl::Status& status) = 0;
    // The pipe has failed, and none of its calls has been written. Returns the
    // pipe of the same generation that takes its place, or null. Called once.
    virtual std::shared_ptr<ClientPipe> Replace(ClientPipe& pipe,
                                                const std::string& cause) = 0;
    // `successor`, which `Replace` returned, has taken over the queue.
    virtual void OnReplaced(const std::shared_ptr<ClientPipe>& successor) = 0;
    // Whether somebody still waits for the reply to this call.
    virtual bool IsPending(const ClientPipe& pipe, int64_t call_id) = 0;
    // Once, unless the pipe was replaced. `status` is UNAVAILABLE "connection
    // to w1 failed: ...".
    virtual void OnPipeFailed(ClientPipe& pipe, const absl::Status& status) = 0;
  };

  struct Options {
    absl::Duration keepalive_interval;
    absl::Duration keepalive_bound;
    WireLimits limits;
    uint64_t instance = 0;  // of this agent, for idempotency keys
    // When bytes last arrived on a pipe; null: nobody can tell.
    std::shared_ptr<PipeArrivals> arrivals;
    // `AgentOptions::stock_workers_know_later_types`.
    bool stock_workers_know_later_types = false;
    // Required; must outlive the pipe.
    SentKeys* sent_keys = nullptr;
  };

  // `options` must outlive the pipe, `activity` and `counters` its callbacks.
  // `generation` numbers the pipes of an agent.
  ClientPipe(Runtime& runtime, Timer& timer, Owner& owner, MemberPtr peer,
             Activity& activity, PeerCounters& counters, uint64_t generation,
             const Options& options);

  const Member& peer() const { return *peer_; }
  const MemberPtr& shared_peer() const { return peer_; }
  PeerCounters& counters() const { return counters_; }
  uint64_t generation() const { return generation_; }
  // Whether the peer was ever heard.
  bool established() const { return established_; }
  // Whether calls may have reached the peer.
  bool has_written() const { return has_written_; }
  // Messages handed to `Write` that the transport has not taken yet.
  size_t num_unwritten() const { return num_unwritten_; }
  size_t num_unwritten_bytes() const { return num_unwritten_bytes_; }
  bool failed();

  // Fails at `deadline` unless it is established by then; `timeout` is for the
  // text. Called at most once, before the pipe is opened.
  void ExpectWithin(absl::Time deadline, absl::Duration timeout);
  absl::Time connect_deadline() const { return connect_deadline_; }

  // Connects through `pipe`, on which the queue is written. Called once.
  // `features` are the peer's; `number` is that of `pipe` in
  // `Options::arrivals`.
  void Open(const std::shared_ptr<tensorpipe::Pipe>& pipe,
            const PeerFeatures& features, uint64_t number);

  // The pipe's failure when it has failed already; a later one goes to the
  // owner. A call whose deadline has passed when its turn comes is dropped.
  absl::Status Write(OutgoingCall call);

  // Drops the call if it has not been written yet. Otherwise tells the peer, if
  // it understands that, that nobody waits for the reply any more.
  void Cancel(int64_t call_id);

  // Asks for a sign of life or fails, as need be. A peer with calls of ours is
  // asked every interval, and another one every bound: it learns by that, too,
  // that we live. Returns when to check again, at the latest. `late`: as in
  // `Keepalive`.
  absl::Time CheckLiveness(absl::Time now, bool late, bool has_calls);

  // Closes the pipe and tells the owner, who may replace it. Does nothing to a
  // failed pipe.
  void Fail(const std::string& cause);

  // Closes the pipe and does not tell the owner. Returns false when the pipe
  // had failed before.
  bool Close();

  void OnMessageBegins() override;
  std::shared_ptr<CpuAllocator> AllocatorFor(
      std::string_view metadata) override;
  bool HasChannel(const tensorpipe::Device& theirs,
                  const tensorpipe::Device& ours) override;
  void OnMessage(IncomingMessage message) override;
  void OnReadFailed(const std::string& cause) override;

 private:
  enum class State { kOpening, kOpen, kFailed };

  void WriteTo(tensorpipe::Pipe& pipe, OutgoingCall call);
  // `then` is called when the message has left; may be null.
  void WriteControl(tensorpipe::Pipe& pipe, const Control& control,
                    std::function<void()> then = nullptr);
  void WritePing(tensorpipe::Pipe& pipe, std::function<void()> then = nullptr);
  void WriteCancel(tensorpipe::Pipe& pipe, int64_t call_id);
  void WriteQueue(tensorpipe::Pipe& pipe);
  // The call is not written, and never will be.
  void Refuse(const OutgoingCall& call, const absl::Status& status);
  // Not OK if the peer may end its process over the types of tensors.
  absl::Status CheckTypes(const EncodedMessage& message) const;
  // The message waits to be written; it has left, or never will.
  void NoteUnwritten(const EncodedMessage& message);
  void NoteWritten(size_t bytes);
  // Takes the next call out of the queue, to write it while the pipe opens. An
  // empty queue opens the pipe. Nothing then, and when the pipe is failing or
  // has failed.
  std::optional<OutgoingCall> NextOfQueue();
  // The call that `NextOfQueue` returned was written.
  void QueuedCallWritten(tensorpipe::Pipe& pipe, int64_t call_id);
  void NoteReceived();
  void NoteEstablished();
  void OnConnectTimeout(absl::Duration timeout);
  // How long ago a byte last arrived.
  absl::Duration SinceArrival() const;
  // Calls go to `successor` from now on, if there is one.
  bool Stop(const absl::Status& failure, bool tell_owner,
            const std::shared_ptr<ClientPipe>& successor = nullptr);
  void HandOver(OutgoingCall call, ClientPipe& successor);

  Runtime& runtime_;
  Timer& timer_;
  Owner& owner_;
  const MemberPtr peer_;
  Activity& activity_;
  PeerCounters& counters_;
  const uint64_t generation_;
  const Options& options_;
  // Set by `Open`, before anything is written.
  PeerFeatures features_;
  std::atomic<uint64_t> number_ = 0;
  std::atomic<size_t> num_unwritten_ = 0;
  std::atomic<size_t> num_unwritten_bytes_ = 0;
  // When a message last began to arrive, or arrived as a whole.
  std::atomic<int64_t> last_received_ns_ = 0;
  std::atomic<bool> established_ = false;
  std::atomic<bool> has_written_ = false;  // set under `mutex_`
  absl::Time connect_deadline_ = absl::InfiniteFuture();

  Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kOpening;
  // It is failing, and no call has been written.
  bool may_not_write_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<ClientPipe> successor_ ABSL_GUARDED_BY(mutex_);
  // By call id: calls of one thread have increasing ids.
  std::map<int64_t, OutgoingCall> queue_ ABSL_GUARDED_BY(mutex_);
  // The call that is just being written while the pipe opens, and whether it
  // was cancelled meanwhile.
  std::optional<int64_t> being_written_ ABSL_GUARDED_BY(mutex_);
  bool cancelled_meanwhile_ ABSL_GUARDED_BY(mutex_) = false;
  // When the peer was last asked for a sign of life, and when for the first
  // time since a byte arrived.
  absl::Time asked_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::Time first_asked_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  std::shared_ptr<tensorpipe::Pipe> pipe_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::optional<Timer::Key> expectation_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_CLIENT_CLIENT_PIPE_H_
