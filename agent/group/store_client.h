// The agent's access to its store, for rendezvous, groups and barriers, which
// waits for a store that is away for a while.
//
// Each access is given `access_timeout` at most. If it fails because the store
// cannot be reached, or does not answer in that time, it is tried again, with
// pauses that grow from 10 ms to a second, until the caller's own deadline.

#ifndef REPRISE_AGENT_GROUP_STORE_CLIENT_H_
#define REPRISE_AGENT_GROUP_STORE_CLIENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/store/store.h"

namespace reprise {

// Thread-safe; holds no lock while it waits for the store. Results are those of
// `Store`. The text of DEADLINE_EXCEEDED has the last error of the store.
class StoreClient {
 public:
  StoreClient(Runtime& runtime, std::shared_ptr<Store> store,
              absl::Duration access_timeout);

  absl::Status Set(std::string_view key, std::string_view value,
                   absl::Time deadline);
  // Waits until `key` exists.
  absl::StatusOr<std::string> Get(std::string_view key, absl::Time deadline);
  absl::StatusOr<std::string> TryGet(std::string_view key, absl::Time deadline);
  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline);
  absl::StatusOr<bool> Delete(std::string_view key, absl::Time deadline);

  // An addition that failed may have been done all the same. So the first is
  // tried once, and the second may add several times.
  absl::StatusOr<int64_t> AddAtMostOnce(std::string_view key, int64_t delta,
                                        absl::Time deadline);
  absl::StatusOr<int64_t> AddAtLeastOnce(std::string_view key, int64_t delta,
                                         absl::Time deadline);

  // Sleeps until then, or until `Stop`.
  void Pause(absl::Time until);

  // Makes all calls return CANCELLED, after at most one access.
  void Stop();

 private:
  template <typename Access>
  auto Retry(absl::Time deadline, Access access)
      -> decltype(access(absl::Time()));
  absl::Time AccessDeadline(absl::Time deadline);
  bool stopped();

  Runtime& runtime_;
  const std::shared_ptr<Store> store_;
  const absl::Duration access_timeout_;
  Mutex mutex_;
  CondVar changed_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_STORE_CLIENT_H_
