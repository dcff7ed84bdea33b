#include "agent/server/handler_gate.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/call_error.h"
#include "agent/planted.h"
#include "agent/runtime/fifo.h"

namespace reprise {

// Says, while it lives, which deadline the calling thread is under.
class HandlerGate::DeadlineScope {
 public:
  DeadlineScope(HandlerGate& gate, absl::Time deadline) {
    if (deadline == absl::InfiniteFuture()) return;
    const void* const self = gate.runtime_.CurrentThread();
    for (Slot& slot : gate.slots_) {
      const void* free = nullptr;
      if (slot.thread.compare_exchange_strong(free, self)) {
        slot.deadline_ns = absl::ToUnixNanos(deadline);
        slot_ = &slot;
        return;
      }
    }
  }
  DeadlineScope(const DeadlineScope&) = delete;
  DeadlineScope& operator=(const DeadlineScope&) = delete;
  ~DeadlineScope() {
    if (slot_ != nullptr) slot_->thread = nullptr;
  }

 private:
  Slot* slot_ = nullptr;
};

// Measures how long the handler takes, however it ends.
class HandlerGate::TimeScope {
 public:
  TimeScope(HandlerGate& gate, absl::Time arrived)
      : gate_(gate), start_(gate.runtime_.Now()) {
    gate_.metrics_.queue_wait.Record(
        absl::ToInt64Nanoseconds(start_ - arrived));
  }
  TimeScope(const TimeScope&) = delete;
  TimeScope& operator=(const TimeScope&) = delete;
  ~TimeScope() {
    gate_.metrics_.handler_time.Record(
        absl::ToInt64Nanoseconds(gate_.runtime_.Now() - start_));
  }

 private:
  HandlerGate& gate_;
  const absl::Time start_;
};

HandlerGate::HandlerGate(Runtime& runtime, ThreadPool& workers,
                         std::shared_ptr<Activity> activity, Metrics& metrics,
                         RequestHandler handler, Options options)
    : runtime_(runtime),
      workers_(workers),
      activity_(std::move(activity)),
      metrics_(metrics),
      handler_(std::move(handler)),
      options_(std::move(options)),
      slots_(static_cast<size_t>(options_.num_threads)),
      state_(options_.paused ? State::kPaused : State::kServing),
      mutex_(runtime, "HandlerGate"),
      answered_(runtime, "HandlerGate.answered") {}

absl::Status HandlerGate::Refusal() const {
  return RefusedByAgent(absl::UnavailableError(
      absl::StrCat(options_.name, " is draining: it takes no new requests")));
}

void HandlerGate::Handle(Message request, const RequestInfo& info,
                         Reply reply) {
  // Counted before the state is read, and `Drain` reads the count after it has
  // written the state: one of the two sees the other.
  ++num_unanswered_;
  if (state_ == State::kServing) {
    Run(std::move(request), info, std::move(reply));
    return;
  }
  Answered();
  {
    MutexLock lock(mutex_);
    if (state_ == State::kPaused) {
      waiting_.push_back({std::move(request), info, std::move(reply)});
      return;
    }
    if (state_ == State::kServing) ++num_unanswered_;
  }
  if (state_ == State::kServing) {
    Run(std::move(request), info, std::move(reply));
  } else {
    reply(Refusal());
  }
}

void HandlerGate::Run(Message request, const RequestInfo& info, Reply reply) {
  const DeadlineScope deadline(*this, info.deadline);
  const TimeScope time(*this, info.arrived);
  handler_(std::move(request), info,
           Reply([gate = shared_from_this(), reply = std::move(reply)](
                     absl::StatusOr<Message> result) mutable {
             reply(std::move(result));
             gate->Answered();
           }));
}

void HandlerGate::Answered() {
  if (--num_unanswered_ != 0 || state_ != State::kDraining) return;
  MutexLock lock(mutex_);
  answered_.NotifyAll();
}

void HandlerGate::Serve() {
  Fifo<Waiting> waiting;
  {
    MutexLock lock(mutex_);
    if (state_ == State::kClosed) return;
    state_ = State::kServing;
    waiting.swap(waiting_);
    num_unanswered_ += static_cast<int64_t>(waiting.size());
  }
  for (Waiting& request : waiting) {
    // By this token the request counts as one that is handled, for `Join` and
    // for the shutdown.
    workers_.Run([gate = shared_from_this(), request = std::move(request),
                  active = activity_->StartRequest().handler]() mutable {
      gate->Run(std::move(request.request), request.info,
                std::move(request.reply));
      active.Release();
    });
  }
}

bool HandlerGate::Drain(absl::Time deadline) {
  Fifo<Waiting> refused;
  {
    MutexLock lock(mutex_);
    if (state_ != State::kClosed) state_ = State::kDraining;
    refused.swap(waiting_);
  }
  for (Waiting& request : refused) request.reply(Refusal());
  if (REPRISE_PLANTED(drain_in_haste)) return true;
  MutexLock lock(mutex_);
  while (num_unanswered_ > 0) {
    if (!answered_.WaitUntil(mutex_, deadline)) return num_unanswered_ == 0;
  }
  return true;
}

void HandlerGate::Close() {
  Fifo<Waiting> dropped;
  MutexLock lock(mutex_);
  state_ = State::kClosed;
  dropped.swap(waiting_);
}

absl::Time HandlerGate::CurrentDeadline() const {
  const void* const self = runtime_.CurrentThread();
  for (const Slot& slot : slots_) {
    if (REPRISE_PLANTED(last_slot_not_seen) && &slot == &slots_.back()) break;
    if (slot.thread == self) {
      return absl::FromUnixNanos(slot.deadline_ns);
    }
  }
  return absl::InfiniteFuture();
}

int64_t HandlerGate::num_waiting() {
  MutexLock lock(mutex_);
  return static_cast<int64_t>(waiting_.size());
}

}  // namespace reprise
