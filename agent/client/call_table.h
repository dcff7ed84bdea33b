// The calls that wait for their replies.
//
// A call is entered once it is known to be valid and has been encoded. A reply,
// its timer, the failure of its pipe, its cancellation and the shutdown each
// try to take it out, and the one that succeeds completes it. So it is
// completed exactly once, with no lock held, and never by a thread that waits
// for the worker pool.

#ifndef REPRISE_AGENT_CLIENT_CALL_TABLE_H_
#define REPRISE_AGENT_CLIENT_CALL_TABLE_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/activity.h"
#include "agent/client/reply_memory.h"
#include "agent/device/caching_allocator.h"
#include "agent/future.h"
#include "agent/group/worker_directory.h"
#include "agent/metrics/metrics.h"
#include "agent/observer.h"
#include "agent/options.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/timer.h"

namespace reprise {

// Identifies a pending call; ordered by peer, then by id. It is one word, so
// that the closures that carry it need no memory of their own.
class CallKey {
 public:
  static constexpr int64_t kMaxId = (int64_t{1} << 48) - 1;

  // `id` must be 0 .. kMaxId.
  CallKey(WorkerId peer, int64_t id)
      : packed_(static_cast<uint64_t>(peer) << 48 | static_cast<uint64_t>(id)) {
  }

  WorkerId peer() const { return static_cast<WorkerId>(packed_ >> 48); }
  int64_t id() const { return static_cast<int64_t>(packed_ & kMaxId); }

  // NOLINTNEXTLINE(modernize-use-nullptr): no pointer is compared
  friend auto operator<=>(const CallKey&, const CallKey&) = default;

 private:
  uint64_t packed_;
};

// Thread-safe. `Close` must be called before it is destroyed, and the timer
// stopped.
class CallTable : public std::enable_shared_from_this<CallTable> {
 public:
  // The place of a call that is still being prepared. It gives the place back
  // when it is destroyed, unless the call was entered.
  class Reservation {
   public:
    Reservation(Reservation&& other) noexcept = default;
    Reservation& operator=(Reservation&&) = delete;
    ~Reservation() {
      if (table_ != nullptr) table_->Unreserve(to_, num_bytes_);
    }
    WorkerId to() const { return to_; }
    int64_t id() const { return id_; }

   private:
    friend class CallTable;
    struct NoDelete {
      void operator()(CallTable*) const {}
    };
    Reservation(CallTable* table, WorkerId to, int64_t id, size_t num_bytes,
                bool is_attempt, Activity::Token active)
        : table_(table),
          to_(to),
          id_(id),
          num_bytes_(num_bytes),
          is_attempt_(is_attempt),
          active_(std::move(active)) {}

    std::unique_ptr<CallTable, NoDelete> table_;
    WorkerId to_;
    int64_t id_;
    size_t num_bytes_;
    bool is_attempt_;
    Activity::Token active_;
  };

  // What may be pending to each peer.
  struct Limits {
    size_t max_calls = 0;
    size_t max_bytes = 0;
  };
  // Learns of a call that was cancelled, and of the generation of its pipe.
  using OnCancelled =
      std::function<void(WorkerId to, uint64_t pipe_generation, int64_t id)>;

  // How a call is made.
  struct ReserveOptions {
    size_t num_bytes = 0;
    // How long to wait for room. Callers that wait for room to the same peer
    // get it in the order in which they came.
    absl::Time wait_until = absl::InfinitePast();
    // The call is one attempt of a call with retries, which is counted as
    // active by itself. The callbacks of an attempt's future run on the thread
    // that completes it.
    bool is_attempt = false;
  };

  // `executor` runs the callbacks of futures; a completion does not wait for
  // it. `observer` may be null. `on_cancelled` is called while the call still
  // counts as active.
  CallTable(Runtime& runtime, Timer& timer, std::shared_ptr<Activity> activity,
            std::shared_ptr<Promise::Executor> executor, Observer* observer,
            Limits limits, OnCancelled on_cancelled);
  ~CallTable();

  // RESOURCE_EXHAUSTED when too much is pending to `to` or memory is short, and
  // FAILED_PRECONDITION, without a text, after `Close`.
  absl::StatusOr<Reservation> Reserve(const WorkerInfo& to,
                                      const ReserveOptions& options);

  // What is kept of a call until it is completed.
  struct Details {
    CallMetrics metrics = {};  // counts the completion
    std::string label = {};    // `CallOptions::label`
    // Where its reply goes; null: where the agent's allocator says.
    std::shared_ptr<ReplyMemory> memory = nullptr;
  };

  // Enters the call, which is then written to the pipe of this generation.
  // `deadline` may be infinite; `timeout` is for the text of the error.
  Future Enter(Reservation reservation, uint64_t pipe_generation,
               absl::Time deadline, absl::Duration timeout, Details details);

  // For the tensors of the reply to this call, if it is pending on this pipe
  // and has memory that no other reply is written to; else null.
  std::shared_ptr<CpuAllocator> ClaimMemory(WorkerId peer,
                                            uint64_t pipe_generation,
                                            int64_t id);
  // Where the tensors of this call's reply are to be copied to: null when the
  // call has no memory, when `ClaimMemory` has given it out for this reply, and
  // when there is no such call.
  std::shared_ptr<ReplyMemory> MemoryToCopyTo(WorkerId peer, int64_t id);

  // Returns false when there is no such call: it was completed before, or it
  // was made to another peer.
  bool Complete(WorkerId peer, int64_t id, Future::Result result);

  // Completes all calls on this pipe with `status`.
  void FailPipe(WorkerId peer, uint64_t pipe_generation,
                const absl::Status& status);

  // Refuses new calls and completes all pending ones with `status`.
  void Close(const absl::Status& status);

  int64_t num_pending();
  bool HasPending(WorkerId peer);
  bool IsPending(WorkerId peer, int64_t id);

 private:
  friend struct PlantedAccess;
  struct PendingCall {
    Promise promise;
    Activity::Token active;
    uint64_t pipe_generation = 0;
    absl::Duration timeout;
    std::optional<Timer::Key> timer;
    Details details;
    size_t num_bytes = 0;
    bool is_memory_claimed = false;
  };
  // A `Reserve` that waits for room.
  struct Waiter {
    Waiter(Runtime& runtime, size_t num_bytes)
        : changed(runtime, "CallTable.room"), num_bytes(num_bytes) {}

    CondVar changed;  // is_granted was set, or `Close` was called
    const size_t num_bytes;
    bool is_granted = false;  // under the table's lock: the room is its own
  };
  // Wakes waiters when it is destroyed. Declared before the lock, so that this
  // happens after it is released.
  struct Wakeups {
    ~Wakeups() {
      for (const std::shared_ptr<Waiter>& waiter : waiters) {
        waiter->changed.NotifyOne();
      }
    }
    std::vector<std::shared_ptr<Waiter>> waiters;
  };
  // The calls to one peer that are reserved or entered.
  struct Load {
    size_t num_calls = 0;
    size_t num_bytes = 0;
    std::list<std::shared_ptr<Waiter>> waiters;  // in the order of their coming
  };
  using Calls = std::map<CallKey, PendingCall>;

  void Unreserve(WorkerId to, size_t num_bytes);
  void Unload(WorkerId to, size_t num_bytes, Wakeups& wakeups)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Gives the room that there is to the waiters that come first.
  void Grant(Load& load, Wakeups& wakeups)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Returns whether `to` has room for a call of so many bytes, and takes it.
  bool TakeRoom(WorkerId to, const ReserveOptions& options, Wakeups& wakeups)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasRoom(const Load& load, size_t num_bytes) const {
    return load.num_calls < limits_.max_calls &&
           (load.num_bytes == 0 ||
            load.num_bytes + num_bytes <= limits_.max_bytes);
  }
  void Cancel(CallKey key);
  void OnTimeout(CallKey key);
  Calls::node_type Take(CallKey key);
  void Finish(Calls::node_type call, Future::Result result);
  void FinishNow(Calls::node_type call, Future::Result result);
  Promise MakePromise(CallKey key, bool is_attempt);

  Runtime& runtime_;
  Timer& timer_;
  const std::shared_ptr<Activity> activity_;
  const std::shared_ptr<Promise::Executor> executor_;
  Observer* const observer_;
  const Limits limits_;
  const OnCancelled on_cancelled_;

  Mutex mutex_;
  Calls calls_ ABSL_GUARDED_BY(mutex_);
  // By the id of the peer, up to the highest one that was called.
  std::vector<Load> loads_ ABSL_GUARDED_BY(mutex_);
  int64_t next_id_ ABSL_GUARDED_BY(mutex_) = 0;
  // Not OK after `Close`.
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_CLIENT_CALL_TABLE_H_
