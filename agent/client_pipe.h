// A connection to a peer for our calls to it.
//
//   opening --Open--> open --any failure--> failed
//
// While it opens, messages wait in a queue. A failed pipe never recovers: its
// owner forgets it and makes another one.

#ifndef REPRISE_AGENT_CLIENT_PIPE_H_
#define REPRISE_AGENT_CLIENT_PIPE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/activity.h"
#include "agent/message_reader.h"
#include "agent/metrics.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/timer.h"
#include "agent/wire/message_codec.h"
#include "agent/worker_directory.h"
#include "tensorpipe/core/pipe.h"

namespace reprise {

// Thread-safe. Lives in a shared_ptr; the callbacks of its TensorPipe pipe keep
// it alive until it has failed or was closed.
class ClientPipe final : public MessageSink,
                         public std::enable_shared_from_this<ClientPipe> {
 public:
  // Called with no lock held, on any thread. Must outlive the pipe's callbacks.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnPipeWorks(ClientPipe& pipe) = 0;
    virtual void OnPipeMessage(ClientPipe& pipe, IncomingMessage message) = 0;
    // Once. `status` is UNAVAILABLE "connection to w1 failed: ...".
    virtual void OnPipeFailed(ClientPipe& pipe, const absl::Status& status) = 0;
  };

  // `activity` and `counters` must outlive the pipe's callbacks. `generation`
  // numbers the pipes of an agent.
  ClientPipe(Runtime& runtime, Timer& timer, Owner& owner, MemberPtr peer,
             Activity& activity, PeerCounters& counters, uint64_t generation);

  const Member& peer() const { return *peer_; }
  PeerCounters& counters() const { return counters_; }
  uint64_t generation() const { return generation_; }
  // Whether anything was ever carried.
  bool works() const { return works_; }
  // Messages handed to `Write` that the transport has not taken yet.
  size_t num_unwritten() const { return num_unwritten_; }

  // Fails at `deadline` unless something was carried by then; `timeout` is for
  // the text.
  void ExpectWithin(absl::Time deadline, absl::Duration timeout);

  // Begins to use `pipe`, after what waits in the queue. Once.
  void Open(std::shared_ptr<tensorpipe::Pipe> pipe);

  // The pipe's failure when it has failed already; a later one goes to the
  // owner.
  absl::Status Write(std::shared_ptr<const EncodedMessage> message);

  // Closes the pipe and tells the owner. Does nothing to a failed pipe.
  void Fail(const std::string& cause);

  // Closes the pipe without a word to the owner. Returns false when it had
  // failed before.
  bool Close();

  void OnMessageBegins() override;
  void OnMessage(IncomingMessage message) override;
  void OnReadFailed(const std::string& cause) override;

 private:
  enum class State { kOpening, kOpen, kFailed };

  void WriteTo(tensorpipe::Pipe& pipe,
               std::shared_ptr<const EncodedMessage> message);
  // The first sign of life.
  void Works();
  bool Stop(const absl::Status& failure, bool tell_owner);

  Timer& timer_;
  Owner& owner_;
  const MemberPtr peer_;
  Activity& activity_;
  PeerCounters& counters_;
  const uint64_t generation_;
  std::atomic<size_t> num_unwritten_ = 0;
  std::atomic<bool> works_ = false;

  Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kOpening;
  std::deque<std::shared_ptr<const EncodedMessage>> queue_
      ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<tensorpipe::Pipe> pipe_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::optional<Timer::Key> expectation_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_CLIENT_PIPE_H_
