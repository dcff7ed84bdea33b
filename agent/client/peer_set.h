// Our connections to the peers that we call: one each.
//
// A connection is opened on first use. After it has failed, the next call opens
// another one: at once, and then, while attempts go on failing before they have
// carried anything, after pauses that double, with some jitter. Calls made in a
// pause wait for the attempt, and fail with its cause or at their own deadline.
//
// A known address is used without asking the store. An address that is not
// known, or at which a connection has failed, is looked up first, since a
// worker that was restarted has another one. When the first attempt at a known
// address fails before a call was written, its calls wait until the address has
// been looked up, and go to another address if there is one. Lookups of several
// peers run beside each other and hold up nobody else.

#ifndef REPRISE_AGENT_CLIENT_PEER_SET_H_
#define REPRISE_AGENT_CLIENT_PEER_SET_H_

#include <array>
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
#include "agent/group/detached_store.h"
#include "agent/group/worker_directory.h"
#include "agent/metrics/metrics.h"
#include "agent/observer.h"
#include "agent/options.h"
#include "agent/pipe/keepalive.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/thread_pool.h"
#include "agent/runtime/timer.h"
#include "agent/wire/call_extras.h"
#include "tensorpipe/core/context.h"

namespace reprise {

// Thread-safe. Before it is destroyed: `lookups` and the connector stopped,
// `Close` called, the context joined.
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
  // How a peer is reached.
  struct Contact {
    std::string address;  // empty: not known
    PeerFeatures features;
  };

  // `connector` has one thread, on which pipes to known addresses are opened;
  // nothing on it blocks. `lookups` asks the store for addresses.
  PeerSet(Runtime& runtime, Timer& timer, ThreadPool& connector,
          DetachedStore& lookups, tensorpipe::Context& context,
          const WorkerDirectory& workers, CallTable& calls, Activity& activity,
          Metrics& metrics, Observer* observer, Options options);

  // The contacts of the workers of a static group when it came together, by id.
  void SetContacts(std::vector<Contact> contacts);

  // The pipe to `peer`, which may still be opening. Never blocks.
  // RESOURCE_EXHAUSTED when too much waits to be written to it. A pipe to an
  // earlier member of this id fails.
  absl::StatusOr<std::shared_ptr<ClientPipe>> Acquire(const MemberPtr& peer);

  // Tells the pipe that the caller of this call has given up: the call is not
  // written, or the peer is told.
  void CancelCall(WorkerId peer, uint64_t pipe_generation, int64_t call_id);

  // Begins no further connection, so that the connector's queue ends at once.
  void StopConnecting() { is_connecting_ = false; }

  // Closes all pipes, in the order of the peers' ids; opens no more.
  void Close();

  int64_t num_pipes();
  // "works: 3 messages wait to be written", by the id of each peer that was
  // ever called.
  std::map<WorkerId, std::string> DescribePipes();
  int64_t num_late_replies() const { return num_late_replies_; }
  // The peers' answers when they were asked for a sign of life.
  int64_t num_signs_of_life() const { return num_signs_of_life_; }
  int64_t num_reconnects() const { return num_reconnects_; }

 private:
  struct Peer {
    // Null once it has failed.
    std::shared_ptr<ClientPipe> pipe;
    bool was_called = false;
    int64_t learned = 0;  // `Member::learned`
    // Of this member:
    int failures = 0;  // in a row, of pipes that never carried anything
    absl::Time not_before = absl::InfinitePast();  // of the next attempt
    Contact contact;
    bool is_outdated = false;    // a connection to this address has failed
    bool was_looked_up = false;  // for the present pipe
    std::string failed_at;       // where the pipe that it replaced failed
    std::string failure;         // and why
    uint64_t lookup = 0;         // the number of the one that runs; 0: none
    // The pipe that waits for the result of the lookup.
    std::shared_ptr<ClientPipe> waiting;
  };
  // Peers are spread over several locks, so that calls to different peers
  // seldom wait for each other.
  struct Shard {
    explicit Shard(Runtime& runtime) : mutex(runtime, "PeerSet") {}

    Mutex mutex;
    std::map<WorkerId, Peer> peers ABSL_GUARDED_BY(mutex);
    bool closed ABSL_GUARDED_BY(mutex) = false;
  };
  static constexpr size_t kNumShards = 8;

  Shard& ShardOf(WorkerId peer) {
    return *shards_[static_cast<size_t>(peer) % kNumShards];
  }
  // The pipes that there are, by the peers' ids.
  std::map<WorkerId, std::shared_ptr<ClientPipe>> pipes();

  std::shared_ptr<ClientPipe> MakePipe(const MemberPtr& peer,
                                       PeerCounters& counters,
                                       uint64_t generation);
  // On the connector.
  void Open(const std::shared_ptr<ClientPipe>& pipe);
  // Never blocks.
  void LookUp(const MemberPtr& peer, uint64_t lookup, bool is_known);
  void OnLookedUp(const Member& peer, uint64_t lookup,
                  const absl::StatusOr<std::string>& address,
                  const absl::StatusOr<std::string>& features);
  void Connect(ClientPipe& pipe, const Contact& contact);

  // The pause before the next attempt.
  absl::Duration Pause(int failures, uint64_t jitter) const;
  absl::Time CheckLives(absl::Time now, bool late);

  void OnPipeEstablished(ClientPipe& pipe) override;
  void OnPipeMessage(ClientPipe& pipe, IncomingMessage message) override;
  std::shared_ptr<CpuAllocator> ClaimMemory(ClientPipe& pipe,
                                            int64_t call_id) override;
  void OnCallRefused(ClientPipe& pipe, int64_t call_id,
                     const absl::Status& status) override;
  std::shared_ptr<ClientPipe> Replace(ClientPipe& pipe,
                                      const std::string& cause) override;
  void OnReplaced(const std::shared_ptr<ClientPipe>& successor) override;
  bool IsPending(const ClientPipe& pipe, int64_t call_id) override;
  void OnPipeFailed(ClientPipe& pipe, const absl::Status& status) override;

  Runtime& runtime_;
  Timer& timer_;
  ThreadPool& connector_;
  DetachedStore& lookups_;
  tensorpipe::Context& context_;
  const WorkerDirectory& workers_;
  CallTable& calls_;
  Activity& activity_;
  Metrics& metrics_;
  Observer* const observer_;
  const Options options_;
  std::atomic<int64_t> num_late_replies_ = 0;
  std::atomic<int64_t> num_signs_of_life_ = 0;
  std::atomic<int64_t> num_reconnects_ = 0;

  std::atomic<uint64_t> next_generation_;
  std::atomic<uint64_t> next_lookup_ = 1;
  std::atomic<bool> is_connecting_ = true;
  std::array<std::unique_ptr<Shard>, kNumShards> shards_;
  Keepalive watch_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_CLIENT_PEER_SET_H_
