#include "agent/client/call_table.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/call_error.h"
#include "agent/planted.h"
#include "agent/probe.h"
#include "agent/runtime/memory_reserve.h"
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
                     Observer* observer, Limits limits,
                     OnCancelled on_cancelled)
    : runtime_(runtime),
      timer_(timer),
      activity_(std::move(activity)),
      executor_(std::move(executor)),
      observer_(observer),
      limits_(limits),
      on_cancelled_(std::move(on_cancelled)),
      mutex_(runtime, "CallTable") {}

CallTable::~CallTable() {
  MutexLock lock(mutex_);
  CHECK(calls_.empty()) << "a call table was destroyed before its Close";
}

absl::StatusOr<CallTable::Reservation> CallTable::Reserve(
    const WorkerInfo& to, const ReserveOptions& options) {
  // It is counted first: after `Close`, a wait for the end of all active calls
  // covers this one too.
  Activity::Token active;
  if (!options.is_attempt) active = activity_->StartCall();
  Wakeups wakeups;
  MutexLock lock(mutex_);
  if (!closed_.ok()) return absl::FailedPreconditionError("");
  absl::Status memory = CheckMemory(runtime_);
  if (!memory.ok()) return memory;
  if (static_cast<size_t>(to.id) >= loads_.size()) {
    loads_.resize(static_cast<size_t>(to.id) + 1);
  }
  if (!TakeRoom(to.id, options, wakeups)) {
    if (!closed_.ok()) return absl::FailedPreconditionError("");
    const Load& load = loads_[to.id];
    return absl::ResourceExhaustedError(absl::StrCat(
        "too many calls pending to ", to.name, " (", load.num_calls, " of ",
        load.num_bytes, " bytes): it does not answer as fast as it is called"));
  }
  if (next_id_ > CallKey::kMaxId) {
    Unload(to.id, options.num_bytes, wakeups);
    return absl::ResourceExhaustedError("this agent has used up its call ids");
  }
  return Reservation(this, to.id, next_id_++, options.num_bytes,
                     options.is_attempt, std::move(active));
}

bool CallTable::TakeRoom(WorkerId to, const ReserveOptions& options,
                         Wakeups& wakeups) {
  const bool may_wait = options.wait_until != absl::InfinitePast();
  if (HasRoom(loads_[to], options.num_bytes) &&
      (!may_wait || loads_[to].waiters.empty())) {
    ++loads_[to].num_calls;
    loads_[to].num_bytes += options.num_bytes;
    return true;
  }
  if (!may_wait) return false;
  const auto waiter = std::make_shared<Waiter>(runtime_, options.num_bytes);
  const auto place =
      loads_[to].waiters.insert(loads_[to].waiters.end(), waiter);
  bool in_time = true;
  while (!waiter->is_granted && closed_.ok() && in_time) {
    in_time = waiter->changed.WaitUntil(mutex_, options.wait_until);
  }
  if (waiter->is_granted) {
    if (closed_.ok()) {
      REPRISE_PROBE("room for a call was waited for");
      return true;
    }
    REPRISE_PROBE("room for a call comes with the shutdown");
    Unload(to, options.num_bytes, wakeups);
    return false;
  }
  REPRISE_PROBE("room for a call does not come");
  loads_[to].waiters.erase(place);
  Grant(loads_[to], wakeups);  // a smaller call may have waited behind it
  return false;
}

void CallTable::Grant(Load& load, Wakeups& wakeups) {
  while (!load.waiters.empty() &&
         HasRoom(load, load.waiters.front()->num_bytes)) {
    ++load.num_calls;
    load.num_bytes += load.waiters.front()->num_bytes;
    load.waiters.front()->is_granted = true;
    wakeups.waiters.push_back(std::move(load.waiters.front()));
    load.waiters.pop_front();
  }
}

void CallTable::Unload(WorkerId to, size_t num_bytes, Wakeups& wakeups) {
  Load& load = loads_[to];
  --load.num_calls;
  load.num_bytes -= num_bytes;
  if (closed_.ok()) Grant(load, wakeups);
}

void CallTable::Unreserve(WorkerId to, size_t num_bytes) {
  Wakeups wakeups;
  MutexLock lock(mutex_);
  Unload(to, num_bytes, wakeups);
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
  if (REPRISE_PLANTED(cancelled_id_reused)) {
    MutexLock lock(mutex_);
    if (next_id_ == key.id() + 1) --next_id_;
  }
  on_cancelled_(key.peer(), call.mapped().pipe_generation, key.id());
  Finish(std::move(call),
         WithCallError(absl::CancelledError("the call was cancelled"),
                       CallErrorSource::kCaller));
}

Future CallTable::Enter(Reservation reservation, uint64_t pipe_generation,
                        absl::Time deadline, absl::Duration timeout,
                        Details details) {
  const CallKey key(reservation.to_, reservation.id_);
  PendingCall call{MakePromise(key, reservation.is_attempt_),
                   std::move(reservation.active_),
                   pipe_generation,
                   timeout,
                   std::nullopt,
                   std::move(details),
                   reservation.num_bytes_};
  Future future = call.promise.future();
  Calls single;
  Calls::node_type node =
      single.extract(single.emplace(key, std::move(call)).first);
  const bool is_none =
      REPRISE_PLANTED(truncated_timeout) && timeout < absl::Milliseconds(1);
  const bool has_timer = deadline != absl::InfiniteFuture() && !is_none;
  if (has_timer) {
    node.mapped().timer =
        timer_.Schedule(deadline, [this, key] { OnTimeout(key); });
  }
  absl::Status closed;
  {
    Wakeups wakeups;
    MutexLock lock(mutex_);
    (void)reservation.table_.release();
    closed = closed_;
    if (closed.ok()) {
      calls_.insert(std::move(node));
    } else {
      Unload(key.peer(), reservation.num_bytes_, wakeups);
    }
  }
  if (!closed.ok()) {
    REPRISE_PROBE("call entered after the shutdown");
    Finish(std::move(node), closed);
  } else if (has_timer && runtime_.Now() >= deadline) {
    REPRISE_PROBE("call entered after its deadline");
    OnTimeout(key);  // its timer may have found no call yet
  }
  return future;
}

CallTable::Calls::node_type CallTable::Take(CallKey key) {
  Wakeups wakeups;
  MutexLock lock(mutex_);
  Calls::node_type call = calls_.extract(key);
  if (!call.empty()) Unload(key.peer(), call.mapped().num_bytes, wakeups);
  return call;
}

bool CallTable::Complete(WorkerId peer, int64_t id, Future::Result result) {
  if (id < 0 || id > CallKey::kMaxId) return false;
  Calls::node_type call = Take(CallKey(peer, id));
  if (call.empty()) return false;
  Finish(std::move(call), std::move(result));
  return true;
}

std::shared_ptr<CpuAllocator> CallTable::ClaimMemory(WorkerId peer,
                                                     uint64_t pipe_generation,
                                                     int64_t id) {
  if (id < 0 || id > CallKey::kMaxId) return nullptr;
  MutexLock lock(mutex_);
  const auto found = calls_.find(CallKey(peer, id));
  if (found == calls_.end() ||
      found->second.pipe_generation != pipe_generation ||
      found->second.details.memory == nullptr) {
    return nullptr;
  }
  std::shared_ptr<CpuAllocator> claim = found->second.details.memory->Claim();
  if (claim != nullptr) found->second.is_memory_claimed = true;
  return claim;
}

std::shared_ptr<ReplyMemory> CallTable::MemoryToCopyTo(WorkerId peer,
                                                       int64_t id) {
  if (id < 0 || id > CallKey::kMaxId) return nullptr;
  MutexLock lock(mutex_);
  const auto found = calls_.find(CallKey(peer, id));
  if (found == calls_.end() || found->second.is_memory_claimed) return nullptr;
  return found->second.details.memory;
}

void CallTable::OnTimeout(CallKey key) {
  Calls::node_type call = Take(key);
  if (call.empty()) {
    // It was completed before, or is just being entered.
    if (REPRISE_PLANTED(double_decrement)) PlantedAccess::EndCall(*activity_);
    return;
  }
  const absl::Duration timeout = call.mapped().timeout;
  if (REPRISE_PLANTED(pending_leak)) {
    MutexLock lock(mutex_);
    ++loads_[key.peer()].num_calls;
    calls_.emplace(key, PendingCall{MakePromise(key, false), Activity::Token(),
                                    call.mapped().pipe_generation, timeout,
                                    std::nullopt, Details(), 0});
  }
  VLOG(1) << "call " << key.id() << " to worker " << key.peer()
          << " timed out after " << timeout;
  Finish(std::move(call), TimeoutError(timeout));
}

void CallTable::FailPipe(WorkerId peer, uint64_t pipe_generation,
                         const absl::Status& status) {
  std::vector<Calls::node_type> failed;
  {
    Wakeups wakeups;
    MutexLock lock(mutex_);
    auto it = calls_.lower_bound(CallKey(peer, 0));
    while (it != calls_.end() && it->first.peer() == peer) {
      const auto next = std::next(it);
      if (it->second.pipe_generation == pipe_generation) {
        Unload(peer, it->second.num_bytes, wakeups);
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
    Wakeups wakeups;
    MutexLock lock(mutex_);
    closed_ = status;
    dropped.swap(calls_);
    for (const auto& [key, call] : dropped) {
      Unload(key.peer(), call.num_bytes, wakeups);
    }
    for (const Load& load : loads_) {
      wakeups.waiters.insert(wakeups.waiters.end(), load.waiters.begin(),
                             load.waiters.end());
    }
  }
  while (!dropped.empty()) {
    Finish(dropped.extract(dropped.begin()), status);
  }
}

void CallTable::Finish(Calls::node_type call, Future::Result result) {
  if (REPRISE_PLANTED(shared_pool)) {
    // Planted: the executor is then the pool that runs handlers.
    (*executor_)(
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
  if (!result.ok()) {
    result = WithLabel(result.status(), pending.details.label);
  }
  VLOG(2) << "call " << key.id() << " to worker " << key.peer()
          << " is completed: " << result.status();
  pending.details.metrics.Completed(runtime_.Now(), result.ok());
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

bool CallTable::IsPending(WorkerId peer, int64_t id) {
  MutexLock lock(mutex_);
  return calls_.count(CallKey(peer, id)) > 0;
}

bool CallTable::HasPending(WorkerId peer) {
  MutexLock lock(mutex_);
  const auto first = calls_.lower_bound(CallKey(peer, 0));
  return first != calls_.end() && first->first.peer() == peer;
}

#ifdef REPRISE_WITH_PLANTED_DEFECTS
void PlantedAccess::EnterOrphan(CallTable& calls, WorkerId to, int64_t id,
                                uint64_t pipe_generation) {
  const CallKey key(to, id);
  Activity::Token uncounted(calls.activity_.get(), Activity::kCall);
  MutexLock lock(calls.mutex_);
  ++calls.loads_[to].num_calls;
  calls.calls_.emplace(
      key, CallTable::PendingCall{calls.MakePromise(key, false),
                                  std::move(uncounted), pipe_generation,
                                  absl::ZeroDuration(), std::nullopt,
                                  CallTable::Details(), 0});
}
#endif

}  // namespace reprise
