// Which requests a server takes, and whose turn it is: the queue between the
// connections of peers and the worker pool.
//
// Each peer has a queue of its own, first in first out, and the threads of the
// pool take from these queues in turn, one request each: a peer with 10,000
// waiting requests delays a request of another peer by one request a thread. A
// request that comes when its peer's queue is full is refused. A request is not
// started while its peer does not take the replies that it was given.
//
// What counts when, and the bounds, are in agent/server_bounds.h. Bytes are
// those of payloads and tensors.

#ifndef REPRISE_AGENT_SERVER_ADMISSION_H_
#define REPRISE_AGENT_SERVER_ADMISSION_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/runtime/fifo.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/thread_pool.h"
#include "agent/server_bounds.h"

namespace reprise {

// Thread-safe. After `Close` it does not touch the worker pool. It must outlive
// its slots.
class Admission : public std::enable_shared_from_this<Admission> {
 public:
  class Peer;
  using PeerPtr = std::shared_ptr<Peer>;

  // A request that was started. It counts as running until this is destroyed.
  class Slot {
   public:
    Slot() = default;
    Slot(Slot&& other) noexcept { *this = std::move(other); }
    Slot& operator=(Slot&& other) noexcept;
    ~Slot() { Release(); }
    void Release();

   private:
    friend class Admission;
    Slot(std::shared_ptr<Admission> admission, PeerPtr peer, size_t bytes)
        : admission_(std::move(admission)),
          peer_(std::move(peer)),
          bytes_(bytes) {}

    std::shared_ptr<Admission> admission_;
    PeerPtr peer_;
    size_t bytes_ = 0;
  };
  // Runs on a thread of the pool, or is destroyed unused by `Close`.
  using Task = absl::AnyInvocable<void(Slot)>;

  struct Load {
    size_t calls = 0;
    size_t bytes = 0;
  };
  struct Loads {
    Load queued;
    Load running;
    Load unwritten;
    size_t connections = 0;
  };
  // Ever.
  struct Refused {
    int64_t for_calls = 0;  // requests, for want of room in calls
    int64_t for_bytes = 0;  // requests, for want of room in bytes
    int64_t connections = 0;
  };

  Admission(Runtime& runtime, ThreadPool& workers, const ServerBounds& bounds);
  ~Admission();

  // Counts a connection, until `Disconnect`. RESOURCE_EXHAUSTED beyond the
  // bounds, with the number of connections and the bound, and without memory.
  absl::StatusOr<PeerPtr> Connect(const std::string& name);
  void Disconnect(Peer& peer);

  // Queues `task`. RESOURCE_EXHAUSTED names the bound, or says that there is
  // no memory; `task` is destroyed then.
  absl::Status Enqueue(const PeerPtr& peer, size_t bytes, Task task);

  // A reply was handed to the transport; the transport took it or never will.
  void ReplyStarted(Peer& peer, size_t bytes);
  void ReplyEnded(Peer& peer, size_t bytes);

  // Destroys what is queued, and starts nothing from now on. Requests that come
  // later are destroyed too.
  void Close();

  // For metrics.
  Loads loads();
  Refused refused();
  std::vector<std::pair<std::string, Loads>> loads_by_peer();

 private:
  struct Queued {
    Task task;
    size_t bytes = 0;
  };

  // The work of one thread of the pool: runs requests until it finds none.
  void Work();
  bool StartNext(Task& task, Slot& slot);
  void EndRequest(Peer& peer, size_t bytes);

  bool MayStart(const Peer& peer) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Puts the peer among those whose turn comes, if it was kept out and now may
  // start, and sends threads.
  void Unblock(const PeerPtr& peer, ThreadPool::Wakeup& wakeup)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UnblockAll(ThreadPool::Wakeup& wakeup)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendThreads(size_t wanted, ThreadPool::Wakeup& wakeup)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EraseIfIdle(Peer& peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Runtime& runtime_;
  ThreadPool& workers_;
  const ServerBounds bounds_;

  Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  // Those that have a connection or anything that counts.
  std::map<std::string, PeerPtr, std::less<>> peers_ ABSL_GUARDED_BY(mutex_);
  // Peers with queued requests that may be started, in the order of their turn.
  Fifo<PeerPtr> turns_ ABSL_GUARDED_BY(mutex_);
  // Peers with queued requests that may not be started.
  size_t num_blocked_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t num_threads_ ABSL_GUARDED_BY(mutex_) =
      0;  // in `Work`, or on their way
  Loads loads_ ABSL_GUARDED_BY(mutex_);
  Refused refused_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_SERVER_ADMISSION_H_
