// A worker of an older version, made of a present one.
//
// What workers of ours send each other depends on the words by which each says
// in the store what it understands (docs/wire.md). A worker whose store knows
// only some of these words, in what it publishes and in what it reads of
// others, is met as one that was built before the others were added, and knows
// nothing of them in its peers either. For dynamic groups: in a static group
// those who enter its epoch are taken for workers that understand what all did
// that ever could.

#ifndef REPRISE_TESTS_SCENARIOS_OLDER_VERSION_H_
#define REPRISE_TESTS_SCENARIOS_OLDER_VERSION_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/store/store.h"

namespace reprise::scenarios {

// The words that a version understands: "deadline", "memory", ... Version 0 is
// the oldest, `kNumVersions - 1` the present one.
std::set<std::string, std::less<>> WordsOfVersion(int64_t version);
inline constexpr int64_t kNumVersions = 10;

// `value`, as a worker publishes its features, with the words of `known` only.
std::string OlderFeatures(std::string_view value,
                          const std::set<std::string, std::less<>>& known);

// Thread-safe, as the store beneath it is.
class OlderStore final : public Store {
 public:
  OlderStore(std::shared_ptr<Store> store,
             std::set<std::string, std::less<>> known)
      : store_(std::move(store)), known_(std::move(known)) {}

  absl::Status Set(std::string_view key, std::string_view value,
                   absl::Time deadline) override {
    return store_->Set(key, Understood(key, value), deadline);
  }
  absl::StatusOr<std::string> Get(std::string_view key,
                                  absl::Time deadline) override {
    return Understood(key, store_->Get(key, deadline));
  }
  absl::StatusOr<std::string> TryGet(std::string_view key,
                                     absl::Time deadline) override {
    return Understood(key, store_->TryGet(key, deadline));
  }
  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline) override {
    const std::string older = Understood(key, desired);
    absl::StatusOr<std::string> value =
        store_->CompareSet(key, expected, older, deadline);
    if (value.ok() && *value == older) *value = std::string(desired);
    return value;
  }
  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                              absl::Time deadline) override {
    return store_->Add(key, delta, deadline);
  }
  absl::StatusOr<bool> Delete(std::string_view key,
                              absl::Time deadline) override {
    return store_->Delete(key, deadline);
  }

 private:
  std::string Understood(std::string_view key, std::string_view value) const;
  absl::StatusOr<std::string> Understood(
      std::string_view key, absl::StatusOr<std::string> value) const {
    if (value.ok()) *value = Understood(key, std::string_view(*value));
    return value;
  }

  const std::shared_ptr<Store> store_;
  const std::set<std::string, std::less<>> known_;
};

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_SCENARIOS_OLDER_VERSION_H_
