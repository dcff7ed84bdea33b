#include "agent/group/store_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/store/store_status.h"

namespace reprise {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(10);
constexpr absl::Duration kLongestPause = absl::Seconds(1);

}  // namespace

StoreClient::StoreClient(Runtime& runtime, std::shared_ptr<Store> store,
                         absl::Duration access_timeout)
    : runtime_(runtime),
      store_(std::move(store)),
      access_timeout_(access_timeout),
      mutex_(runtime, "StoreClient"),
      changed_(runtime, "StoreClient.changed") {}

template <typename Access>
auto StoreClient::Retry(absl::Time deadline, Access access)
    -> decltype(access(absl::Time())) {
  absl::Duration pause = kFirstPause;
  while (true) {
    if (stopped()) return absl::CancelledError("the agent was shut down");
    auto result = access(AccessDeadline(deadline));
    const absl::Status& status = StatusOf(result);
    const bool transient =
        absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
    if (!transient) return result;
    const absl::Time now = runtime_.Now();
    if (now >= deadline) {
      if (absl::IsDeadlineExceeded(status)) return result;
      return absl::DeadlineExceededError(
          absl::StrCat("the store: ", status.message()));
    }
    // An access that ran into its deadline has waited long enough.
    if (absl::IsDeadlineExceeded(status)) pause = kFirstPause;
    Pause(std::min(now + pause, deadline));
    pause = std::min(2 * pause, kLongestPause);
  }
}

absl::Time StoreClient::AccessDeadline(absl::Time deadline) {
  return std::min(deadline, runtime_.Now() + access_timeout_);
}

absl::Status StoreClient::Set(std::string_view key, std::string_view value,
                              absl::Time deadline) {
  return Retry(deadline, [&](absl::Time until) {
    return store_->Set(key, value, until);
  });
}

absl::StatusOr<std::string> StoreClient::Get(std::string_view key,
                                             absl::Time deadline) {
  return Retry(deadline,
               [&](absl::Time until) { return store_->Get(key, until); });
}

absl::StatusOr<std::string> StoreClient::TryGet(std::string_view key,
                                                absl::Time deadline) {
  return Retry(deadline,
               [&](absl::Time until) { return store_->TryGet(key, until); });
}

absl::StatusOr<std::string> StoreClient::CompareSet(std::string_view key,
                                                    std::string_view expected,
                                                    std::string_view desired,
                                                    absl::Time deadline) {
  return Retry(deadline, [&](absl::Time until) {
    return store_->CompareSet(key, expected, desired, until);
  });
}

absl::StatusOr<bool> StoreClient::Delete(std::string_view key,
                                         absl::Time deadline) {
  return Retry(deadline,
               [&](absl::Time until) { return store_->Delete(key, until); });
}

absl::StatusOr<int64_t> StoreClient::AddAtMostOnce(std::string_view key,
                                                   int64_t delta,
                                                   absl::Time deadline) {
  if (stopped()) return absl::CancelledError("the agent was shut down");
  return store_->Add(key, delta, AccessDeadline(deadline));
}

absl::StatusOr<int64_t> StoreClient::AddAtLeastOnce(std::string_view key,
                                                    int64_t delta,
                                                    absl::Time deadline) {
  return Retry(deadline, [&](absl::Time until) {
    return store_->Add(key, delta, until);
  });
}

void StoreClient::Stop() {
  MutexLock lock(mutex_);
  stopped_ = true;
  changed_.NotifyAll();
}

bool StoreClient::stopped() {
  MutexLock lock(mutex_);
  return stopped_;
}

void StoreClient::Pause(absl::Time until) {
  MutexLock lock(mutex_);
  while (!stopped_ && changed_.WaitUntil(mutex_, until)) {
  }
}

}  // namespace reprise
