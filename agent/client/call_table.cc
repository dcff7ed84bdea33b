#include "agent/client/call_table.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/call_error.h"
#include "agent/planted.h"
#include "agent/wire/rpc_error.h"
#include "glog/logging.h"

namespace reprise {
namespace {

absl::Status TimeoutError(absl::Duration timeout) {
  // PyTorch's timeouts are whole milliseconds, ours need not be.
  const bool is_whole = absl::Trunc(timeout, absl::Milliseconds(1)) == timeout;
  return WithCallError(
      RpcErrorStatus(
          RpcErrorType::kTimeout,
          absl::StrCat("RPC ran for more than set timeout (",
                       is_whole
                           ? absl::StrCat(absl::ToInt64Milliseconds(timeout))
                           : absl::StrCat(absl::ToDoubleMilliseconds(timeout)),
                       " ms) and will now be marked with an error")),
      CallErrorSource::kDeadline);
}

}  // namespace

CallTable::CallTable(Runtime& runtime, Timer& timer,
                     std::shared_ptr<Activity> activity,
                     std::shared_ptr<Promise::Executor> executor,
                     ThreadPool& workers, Observer* observer, Limits limits,
                     OnCancelled on_cancelled)
    : runtime_(runtime),
      timer_(timer),
      activity_(std::move(activity)),
      executor_(std::move(executor)),
      workers_(workers),
      observer_(observer),
      limits_(limits),
      on_cancelled_(std::move(on_cancelled)),
      mutex_(runtime, "CallTable"),
      room_(runtime, "CallTable.room") {}

CallTable::~CallTable() {
  MutexLock lock(mutex_);
  CHECK(calls_.empty()) << "a call table was destroyed before its Close";
}

absl::StatusOr<CallTable::Reservation> CallTable::Reserve(
    const WorkerInfo& to, const ReserveOptions& options) {
  // Counted first: after `Close`, whoever waits for no active call waits for
  // this one too.
  Activity::Token active;
  if (!options.is_attempt) active = activity_->StartCall();
  MutexLock lock(mutex_);
  if (static_cast<size_t>(to.id) >= loads_.size()) {
    loads_.resize(static_cast<size_t>(to.id) + 1);
  }
  bool in_time = options.wait_until != absl::InfinitePast();
  while (closed_.ok() && in_time &&
         !HasRoom(loads_[to.id], options.num_bytes)) {
    ++num_waiting_;
    in_time = room_.WaitUntil(mutex_, options.wait_until);
    --num_waiting_;
  }
  if (!closed_.ok()) return absl::FailedPreconditionError("");
  Load& load = loads_[to.id];
  if (!HasRoom(load, options.num_bytes)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "too many calls pending to ", to.name, " (", load.num_calls, " of ",
        load.num_bytes, " bytes): it does not answer as fast as it is called"));
  }
  if (next_id_ > CallKey::kMaxId) {
    return absl::ResourceExhaustedError("this agent has used up its call ids");
  }
  ++load.num_calls;
  load.num_bytes += options.num_bytes;
  return Reservation(this, to.id, next_id_++, options.num_bytes,
                     std::move(active));
}

void CallTable::Unload(WorkerId to, size_t num_bytes) {
  Load& load = loads_[to];
  --load.num_calls;
  load.num_bytes -= num_bytes;
  if (num_waiting_ > 0) room_.NotifyAll();
}

void CallTable::Unreserve(WorkerId to, size_t num_bytes) {
  MutexLock lock(mutex_);
  Unload(to, num_bytes);
}

Promise CallTable::MakePromise(CallKey key, bool is_attempt) {
  // Weak: a future may outlive the agent.
  return Promise(runtime_, is_attempt ? nullptr : executor_,
                 [table = weak_from_this(), key] {
                   if (const std::shared_ptr<CallTable> alive = table.lock()) {
                     alive->Cancel(key);
                   }
                 });
}

void CallTable::Cancel(CallKey key) {
  Calls::node_type call = Take(key);
  if (call.empty()) return;
  on_cancelled_(key.peer(), call.mapped().pipe_generation, key.id());
  Finish(std::move(call),
         WithCallError(absl::CancelledError("the call was cancelled"),
                       CallErrorSource::kCaller));
}

Future CallTable::Enter(Reservation reservation, uint64_t pipe_generation,
                        absl::Time deadline, absl::Duration timeout,
                        const CallMetrics& metrics, bool is_attempt) {
  const CallKey key(reservation.to_, reservation.id_);
  PendingCall call{MakePromise(key, is_attempt),
                   std::move(reservation.active_),
                   pipe_generation,
                   timeout,
                   std::nullopt,
                   metrics,
                   reservation.num_bytes_};
  Future future = call.promise.future();
  Calls single;
  Calls::node_type node =
      single.extract(single.emplace(key, std::move(call)).first);
  absl::Status closed;
  {
    MutexLock lock(mutex_);
    (void)reservation.table_.release();
    closed = closed_;
    if (closed.ok()) {
      // With the lock held: when the timer strikes, the call is there.
      const bool is_none =
          REPRISE_PLANTED(truncated_timeout) && timeout < absl::Milliseconds(1);
      if (deadline != absl::InfiniteFuture() && !is_none) {
        node.mapped().timer =
            timer_.Schedule(deadline, [this, key] { OnTimeout(key); });
      }
      calls_.insert(std::move(node));
      return future;
    }
    Unload(key.peer(), reservation.num_bytes_);
  }
  Finish(std::move(node), closed);
  return future;
}

CallTable::Calls::node_type CallTable::Take(CallKey key) {
  MutexLock lock(mutex_);
  Calls::node_type call = calls_.extract(key);
  if (!call.empty()) Unload(key.peer(), call.mapped().num_bytes);
  return call;
}

bool CallTable::Complete(WorkerId peer, int64_t id, Future::Result result) {
  if (id < 0 || id > CallKey::kMaxId) return false;
  Calls::node_type call = Take(CallKey(peer, id));
  if (call.empty()) return false;
  Finish(std::move(call), std::move(result));
  return true;
}

void CallTable::OnTimeout(CallKey key) {
  Calls::node_type call = Take(key);
  if (call.empty()) {
    // The reply won by a hair.
    if (REPRISE_PLANTED(double_decrement)) activity_->End(Activity::kCall);
    return;
  }
  call.mapped().timer.reset();
  const absl::Duration timeout = call.mapped().timeout;
  if (REPRISE_PLANTED(pending_leak)) {
    MutexLock lock(mutex_);
    ++loads_[key.peer()].num_calls;
    calls_.emplace(key, PendingCall{MakePromise(key, false), Activity::Token(),
                                    call.mapped().pipe_generation, timeout,
                                    std::nullopt, CallMetrics(), 0});
  }
  VLOG(1) << "call " << key.id() << " to worker " << key.peer()
          << " timed out after " << timeout;
  Finish(std::move(call), TimeoutError(timeout));
}

void CallTable::FailPipe(WorkerId peer, uint64_t pipe_generation,
                         const absl::Status& status) {
  std::vector<Calls::node_type> failed;
  {
    MutexLock lock(mutex_);
    auto it = calls_.lower_bound(CallKey(peer, 0));
    while (it != calls_.end() && it->first.peer() == peer) {
      const auto next = std::next(it);
      if (it->second.pipe_generation == pipe_generation) {
        Unload(peer, it->second.num_bytes);
        failed.push_back(calls_.extract(it));
      }
      it = next;
    }
  }
  for (Calls::node_type& call : failed) Finish(std::move(call), status);
}

void CallTable::Close(const absl::Status& status) {
  Calls dropped;
  {
    MutexLock lock(mutex_);
    closed_ = status;
    dropped.swap(calls_);
    for (const auto& [key, call] : dropped) {
      Unload(key.peer(), call.num_bytes);
    }
    room_.NotifyAll();
  }
  while (!dropped.empty()) {
    Finish(dropped.extract(dropped.begin()), status);
  }
}

void CallTable::Finish(Calls::node_type call, Future::Result result) {
  if (REPRISE_PLANTED(shared_pool)) {
    workers_.Run(
        [this, call = std::move(call), result = std::move(result)]() mutable {
          FinishNow(std::move(call), std::move(result));
        });
    return;
  }
  FinishNow(std::move(call), std::move(result));
}

void CallTable::FinishNow(Calls::node_type call, Future::Result result) {
  const CallKey key = call.key();
  PendingCall& pending = call.mapped();
  if (pending.timer.has_value()) timer_.Cancel(*pending.timer);
  VLOG(2) << "call " << key.id() << " to worker " << key.peer()
          << " is completed: " << result.status();
  pending.metrics.Completed(runtime_.Now(), result.ok());
  if (observer_ != nullptr) {
    observer_->OnCallCompleted(key.peer(), key.id(), result.status(),
                               result.ok() ? &*result : nullptr);
  }
  pending.promise.Complete(
      std::move(result),
      [active = std::move(pending.active)]() mutable { active.Release(); });
}

int64_t CallTable::num_pending() {
  MutexLock lock(mutex_);
  return static_cast<int64_t>(calls_.size());
}

bool CallTable::HasPending(WorkerId peer) {
  MutexLock lock(mutex_);
  const auto first = calls_.lower_bound(CallKey(peer, 0));
  return first != calls_.end() && first->first.peer() == peer;
}

void CallTable::PlantOrphan(Reservation& reservation,
                            uint64_t pipe_generation) {
  const CallKey key(reservation.to_, reservation.id_);
  MutexLock lock(mutex_);
  ++loads_[key.peer()].num_calls;
  calls_.emplace(key, PendingCall{MakePromise(key, false),
                                  activity_->PlantUncounted(Activity::kCall),
                                  pipe_generation, absl::ZeroDuration(),
                                  std::nullopt, CallMetrics(), 0});
}

}  // namespace reprise
