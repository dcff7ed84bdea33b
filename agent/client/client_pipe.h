// A connection to a peer for our calls to it.
//
//   opening --Open--> open --any failure--> failed
//
// While it opens, messages wait in a queue. A failed pipe never recovers: its
// owner forgets it and makes another one.
//
// When nothing has come from the peer for a while it is asked for a sign of
// life, if it knows how to give one, and the pipe fails when none comes.

#ifndef REPRISE_AGENT_CLIENT_CLIENT_PIPE_H_
#define REPRISE_AGENT_CLIENT_CLIENT_PIPE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/activity.h"
#include "agent/group/worker_directory.h"
#include "agent/metrics/metrics.h"
#include "agent/pipe/message_reader.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/timer.h"
#include "agent/wire/call_extras.h"
#include "agent/wire/message_codec.h"
#include "tensorpipe/core/pipe.h"

namespace reprise {

// A request on its way out.
struct OutgoingCall {
  std::shared_ptr<const EncodedMessage> message;
  absl::Time deadline = absl::InfiniteFuture();
  std::string idempotency_key;
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
    // The call was not written, and never will be.
    virtual void OnCallRefused(ClientPipe& pipe, int64_t call_id,
                               const absl::Status& status) = 0;
    // Once. `status` is UNAVAILABLE "connection to w1 failed: ...".
    virtual void OnPipeFailed(ClientPipe& pipe, const absl::Status& status) = 0;
  };

  struct Options {
    absl::Duration keepalive_interval;
    absl::Duration keepalive_bound;
    WireLimits limits;
    uint64_t instance = 0;  // of this agent, for idempotency keys
  };

  // `options` must outlive the pipe, `activity` and `counters` its callbacks.
  // `generation` numbers the pipes of an agent.
  ClientPipe(Runtime& runtime, Timer& timer, Owner& owner, MemberPtr peer,
             Activity& activity, PeerCounters& counters, uint64_t generation,
             const Options& options);

  const Member& peer() const { return *peer_; }
  PeerCounters& counters() const { return counters_; }
  uint64_t generation() const { return generation_; }
  // Whether anything was ever carried.
  bool established() const { return established_; }
  // Messages handed to `Write` that the transport has not taken yet.
  size_t num_unwritten() const { return num_unwritten_; }
  size_t num_unwritten_bytes() const { return num_unwritten_bytes_; }
  bool failed();

  // Fails at `deadline` unless something was carried by then; `timeout` is for
  // the text.
  void ExpectWithin(absl::Time deadline, absl::Duration timeout);

  // Begins to use `pipe`, after what waits in the queue. Once. `features`: of
  // the peer.
  void Open(const std::shared_ptr<tensorpipe::Pipe>& pipe,
            const PeerFeatures& features);

  // The pipe's failure when it has failed already; a later one goes to the
  // owner. A call whose deadline has passed when its turn comes is dropped.
  absl::Status Write(OutgoingCall call);

  // Drops the call if it was not written yet; otherwise tells the peer, if it
  // understands, that nobody waits for the reply any more.
  void Cancel(int64_t call_id);

  // Asks for a sign of life or fails, as need be: a peer that was silent for
  // the interval is asked if it has calls of ours, and for the bound if it has
  // not. Returns when to look again, at the latest. `late`: as in `Keepalive`.
  absl::Time CheckLiveness(absl::Time now, bool late, bool has_calls);

  // Closes the pipe and tells the owner. Does nothing to a failed pipe.
  void Fail(const std::string& cause);

  // Closes the pipe without a word to the owner. Returns false when it had
  // failed before.
  bool Close();

  void OnMessageBegins(size_t num_bytes) override;
  void OnMessage(IncomingMessage message) override;
  void OnReadFailed(const std::string& cause) override;

 private:
  enum class State { kOpening, kOpen, kFailed };

  void WriteTo(tensorpipe::Pipe& pipe, OutgoingCall call);
  void WriteControl(tensorpipe::Pipe& pipe, const Control& control);
  void NotWritten(const OutgoingCall& call);
  // A sign of life; the first one.
  void NoteReceived(absl::Duration allowance);
  void NoteEstablished();
  bool Stop(const absl::Status& failure, bool tell_owner);

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
  std::atomic<size_t> num_unwritten_ = 0;
  std::atomic<size_t> num_unwritten_bytes_ = 0;
  // When the peer was heard last, or will be if it goes on.
  std::atomic<int64_t> last_received_ns_ = 0;
  std::atomic<bool> established_ = false;

  Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kOpening;
  std::deque<OutgoingCall> queue_ ABSL_GUARDED_BY(mutex_);
  // When the peer was asked for a sign of life.
  absl::Time asked_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  std::shared_ptr<tensorpipe::Pipe> pipe_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::optional<Timer::Key> expectation_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_CLIENT_CLIENT_PIPE_H_
