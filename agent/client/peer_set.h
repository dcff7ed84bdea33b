// Our connections to the peers that we call: one each, opened on first use and
// again after it failed: at once, and then, while it goes on failing before it
// has carried anything, after pauses that double, with some jitter. Calls made
// in a pause wait for the attempt, and fail with its cause or at their own
// deadline.

#ifndef REPRISE_AGENT_CLIENT_PEER_SET_H_
#define REPRISE_AGENT_CLIENT_PEER_SET_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/client/call_table.h"
#include "agent/client/client_pipe.h"
#include "agent/group/worker_directory.h"
#include "agent/metrics/metrics.h"
#include "agent/observer.h"
#include "agent/options.h"
#include "agent/pipe/keepalive.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/thread_pool.h"
#include "agent/runtime/timer.h"
#include "agent/store/store.h"
#include "tensorpipe/core/context.h"

namespace reprise {

// Thread-safe. Before it is destroyed: the connector stopped, `Close` called,
// the context joined.
class PeerSet final : public ClientPipe::Owner {
 public:
  struct Options {
    absl::Duration connect_timeout;
    absl::Duration store_timeout;
    size_t max_unwritten_per_peer = 0;
    size_t max_unwritten_bytes_per_peer = 0;
    absl::Duration shortest_pause;
    absl::Duration longest_pause;
    ClientPipe::Options pipe;
    // Numbers its pipes from here on: those of an agent's sets must differ.
    uint64_t first_generation = 1;
    // Called when a pipe begins to work and when one that worked has failed,
    // with no lock held, on any thread; must be quick. May be null.
    std::function<void(const PeerChange&)> on_change = nullptr;
  };

  // `connector` is a pool of one thread, on which pipes are opened.
  PeerSet(Runtime& runtime, Timer& timer, ThreadPool& connector,
          std::shared_ptr<Store> store, tensorpipe::Context& context,
          const WorkerDirectory& workers, CallTable& calls, Activity& activity,
          Metrics& metrics, Observer* observer, Options options);

  // The addresses that the workers of a static group had when it met, by id.
  void SetAddresses(std::vector<std::string> addresses);

  // The pipe to `peer`, which may still be opening. Never blocks.
  // RESOURCE_EXHAUSTED when too much waits to be written to it. A pipe to an
  // earlier member of this id fails.
  absl::StatusOr<std::shared_ptr<ClientPipe>> Acquire(const MemberPtr& peer);

  // The caller of this call gave up: it is not written, or the peer is told.
  void CancelCall(WorkerId peer, uint64_t pipe_generation, int64_t call_id);

  // Closes all pipes, in order of peers' ids; opens no more.
  void Close();

  int64_t num_pipes();
  // "works: 3 messages wait to be written", by the id of each peer that was
  // ever called.
  std::map<WorkerId, std::string> DescribePipes();
  int64_t num_late_replies() const { return num_late_replies_; }
  int64_t num_reconnects() const { return num_reconnects_; }

 private:
  struct Peer {
    // Null once it has failed.
    std::shared_ptr<ClientPipe> pipe;
    bool was_called = false;
    int64_t incarnation = 0;
    // Of this incarnation:
    int failures = 0;  // in a row, of pipes that never carried anything
    absl::Time not_before = absl::InfinitePast();  // of the next attempt
  };
  struct Contact {
    int64_t incarnation = 0;
    std::string address;
    PeerFeatures features;
  };

  // On the connector.
  void Open(const std::shared_ptr<ClientPipe>& pipe);
  absl::StatusOr<Contact> LookUp(const Member& peer);

  // Before the next attempt.
  absl::Duration Pause(int failures, uint64_t jitter) const;
  absl::Time CheckLives(absl::Time now, bool late);

  void OnPipeEstablished(ClientPipe& pipe) override;
  void OnPipeMessage(ClientPipe& pipe, IncomingMessage message) override;
  void OnCallRefused(ClientPipe& pipe, int64_t call_id,
                     const absl::Status& status) override;
  void OnPipeFailed(ClientPipe& pipe, const absl::Status& status) override;

  Runtime& runtime_;
  Timer& timer_;
  ThreadPool& connector_;
  const std::shared_ptr<Store> store_;
  tensorpipe::Context& context_;
  const WorkerDirectory& workers_;
  CallTable& calls_;
  Activity& activity_;
  Metrics& metrics_;
  Observer* const observer_;
  const Options options_;
  std::atomic<int64_t> num_late_replies_ = 0;
  std::atomic<int64_t> num_reconnects_ = 0;

  Mutex mutex_;
  // Only peers that were ever called are here.
  std::map<WorkerId, Peer> peers_ ABSL_GUARDED_BY(mutex_);
  std::map<WorkerId, Contact> contacts_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_generation_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  Keepalive watch_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_CLIENT_PEER_SET_H_
