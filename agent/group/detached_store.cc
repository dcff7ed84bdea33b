#include "agent/group/detached_store.h"

#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "agent/rare_way.h"
#include "agent/runtime/mutex.h"

namespace reprise {
namespace {

// An access is waited for this much longer than its deadline: a store that
// honours deadlines answers by then, with a better error than ours.
constexpr absl::Duration kToAnswer = absl::Milliseconds(50);

// How long the destructor waits for accesses to end by themselves.
constexpr absl::Duration kToEnd = absl::Milliseconds(100);

// `Spawn` refuses an access when so many wait for a thread: while a store
// hangs, more and more of them come.
constexpr int kMaxQueued = 4096;

}  // namespace

// What the threads share with the store, and may use after its end.
struct DetachedStore::Shared {
  explicit Shared(Runtime& runtime)
      : mutex(runtime, "DetachedStore"),
        changed(runtime, "DetachedStore.changed") {}

  Mutex mutex;
  CondVar changed;  // an access ended, delivering fell to 0, stopped was set
  bool stopped ABSL_GUARDED_BY(mutex) = false;
  int delivering ABSL_GUARDED_BY(mutex) = 0;
};

DetachedStore::DetachedStore(Runtime& runtime, std::shared_ptr<Store> store,
                             std::string name, int max_threads)
    : runtime_(runtime),
      store_(std::move(store)),
      shared_(std::make_shared<Shared>(runtime)),
      pool_(runtime, std::move(name), max_threads) {}

DetachedStore::~DetachedStore() {
  Stop();
  const absl::Time deadline =
      was_awaited_ ? absl::InfinitePast() : runtime_.Now() + kToEnd;
  if (!pool_.Stop(deadline)) pool_.Abandon(nullptr);
}

template <typename Result, typename Access>
Result DetachedStore::Await(absl::Time deadline, Access access) {
  struct Pending {
    std::optional<Result> result;
    bool is_abandoned = false;
  };
  auto pending = std::make_shared<Pending>();
  const bool runs =
      pool_.Run([shared = shared_, store = store_, pending,
                 access = std::move(access), &runtime = runtime_] {
        {
          MutexLock lock(shared->mutex);
          if (pending->is_abandoned || shared->stopped) return;
        }
        Result result = access(*store);
        if (REPRISE_RARE_WAY("store is slow to answer")) {
          runtime.SleepUntil(runtime.Now() + absl::Milliseconds(1));
        }
        {
          MutexLock lock(shared->mutex);
          pending->result.emplace(std::move(result));
        }
        shared->changed.NotifyAll();
      });
  MutexLock lock(shared_->mutex);
  bool in_time = runs;
  while (!pending->result.has_value() && !shared_->stopped && in_time) {
    in_time = shared_->changed.WaitUntil(shared_->mutex, deadline + kToAnswer);
  }
  if (pending->result.has_value()) return *std::move(pending->result);
  pending->is_abandoned = true;
  if (shared_->stopped) return absl::CancelledError("the agent was shut down");
  if (runs) {
    return absl::DeadlineExceededError("the store did not answer in time");
  }
  return absl::UnavailableError(
      "no thread can be started for an access to the store");
}

absl::Status DetachedStore::Set(std::string_view key, std::string_view value,
                                absl::Time deadline) {
  return Await<absl::Status>(
      deadline, [key = std::string(key), value = std::string(value), deadline](
                    Store& store) { return store.Set(key, value, deadline); });
}

absl::StatusOr<std::string> DetachedStore::Get(std::string_view key,
                                               absl::Time deadline) {
  return Await<absl::StatusOr<std::string>>(
      deadline, [key = std::string(key), deadline](Store& store) {
        return store.Get(key, deadline);
      });
}

absl::StatusOr<std::string> DetachedStore::TryGet(std::string_view key,
                                                  absl::Time deadline) {
  return Await<absl::StatusOr<std::string>>(
      deadline, [key = std::string(key), deadline](Store& store) {
        return store.TryGet(key, deadline);
      });
}

absl::StatusOr<std::string> DetachedStore::CompareSet(std::string_view key,
                                                      std::string_view expected,
                                                      std::string_view desired,
                                                      absl::Time deadline) {
  return Await<absl::StatusOr<std::string>>(
      deadline, [key = std::string(key), expected = std::string(expected),
                 desired = std::string(desired), deadline](Store& store) {
        return store.CompareSet(key, expected, desired, deadline);
      });
}

absl::StatusOr<int64_t> DetachedStore::Add(std::string_view key, int64_t delta,
                                           absl::Time deadline) {
  return Await<absl::StatusOr<int64_t>>(
      deadline, [key = std::string(key), delta, deadline](Store& store) {
        return store.Add(key, delta, deadline);
      });
}

absl::StatusOr<bool> DetachedStore::Delete(std::string_view key,
                                           absl::Time deadline) {
  return Await<absl::StatusOr<bool>>(
      deadline, [key = std::string(key), deadline](Store& store) {
        return store.Delete(key, deadline);
      });
}

bool DetachedStore::Spawn(absl::AnyInvocable<Deliver(Store&)> access) {
  if (pool_.queue_length() >= kMaxQueued) return false;
  return pool_.Run(
      [shared = shared_, store = store_, access = std::move(access)]() mutable {
        {
          MutexLock lock(shared->mutex);
          if (shared->stopped) return;
        }
        Deliver deliver = access(*store);
        {
          MutexLock lock(shared->mutex);
          if (shared->stopped) return;
          ++shared->delivering;
        }
        deliver();
        deliver = nullptr;
        bool is_last = false;
        {
          MutexLock lock(shared->mutex);
          is_last = --shared->delivering == 0;
        }
        if (is_last) shared->changed.NotifyAll();
      });
}

void DetachedStore::Stop() {
  MutexLock lock(shared_->mutex);
  shared_->stopped = true;
  shared_->changed.NotifyAll();
  while (shared_->delivering > 0) {
    shared_->changed.WaitUntil(shared_->mutex, absl::InfiniteFuture());
  }
}

bool DetachedStore::AwaitAccesses(absl::Time deadline) {
  was_awaited_ = true;
  return pool_.Stop(deadline);
}

}  // namespace reprise
