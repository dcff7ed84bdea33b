// A store that nobody has to wait for longer than they want.
//
// Each access to the store that it wraps runs on one of a few threads of its
// own, which owns everything that the access uses. The caller waits for the
// result until its deadline or until `Stop`, even when the store itself ignores
// the deadline, and then leaves the access behind.

#ifndef REPRISE_AGENT_GROUP_DETACHED_STORE_H_
#define REPRISE_AGENT_GROUP_DETACHED_STORE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/thread_pool.h"
#include "agent/store/store.h"

namespace reprise {

// Thread-safe. Results are those of the store; beside them, DEADLINE_EXCEEDED
// when the store has not answered in time, UNAVAILABLE when no thread can be
// started, and CANCELLED after `Stop`. An access that was left behind may still
// take effect, as may every access that ends with DEADLINE_EXCEEDED.
class DetachedStore final : public Store {
 public:
  // Threads are named `name`-0 and so on. At most `max_threads` accesses run at
  // a time; further ones wait.
  DetachedStore(Runtime& runtime, std::shared_ptr<Store> store,
                std::string name, int max_threads);
  // Calls `Stop`, and waits for a moment for accesses that run, unless
  // `AwaitAccesses` was called before. What still runs then is left behind.
  ~DetachedStore() override;

  absl::Status Set(std::string_view key, std::string_view value,
                   absl::Time deadline) override;
  absl::StatusOr<std::string> Get(std::string_view key,
                                  absl::Time deadline) override;
  absl::StatusOr<std::string> TryGet(std::string_view key,
                                     absl::Time deadline) override;
  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline) override;
  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                              absl::Time deadline) override;
  absl::StatusOr<bool> Delete(std::string_view key,
                              absl::Time deadline) override;

  // What is done with the result of an access.
  using Deliver = absl::AnyInvocable<void()>;
  // Runs `access`, which must own what it uses, on one of the threads, and then
  // what it returns, unless `Stop` has begun. Never blocks. Returns false when
  // too many wait, when no thread can be started, and after `Stop`.
  bool Spawn(absl::AnyInvocable<Deliver(Store&)> access);

  // Ends all waits for a result with CANCELLED, now and from now on. No
  // `Deliver` runs once it has returned; a running one is waited for.
  void Stop();

  // After `Stop`: returns false when an access still runs at `deadline`. May be
  // called again.
  bool AwaitAccesses(absl::Time deadline);

  // The number of accesses that run.
  int num_running() { return pool_.num_busy_threads(); }

 private:
  struct Shared;
  template <typename Result, typename Access>
  Result Await(absl::Time deadline, Access access);

  Runtime& runtime_;
  const std::shared_ptr<Store> store_;
  const std::shared_ptr<Shared> shared_;
  std::atomic<bool> was_awaited_ = false;
  ThreadPool pool_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_DETACHED_STORE_H_
