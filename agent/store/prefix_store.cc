#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/store/store.h"

namespace reprise {
namespace {

class PrefixStore : public Store {
 public:
  PrefixStore(std::shared_ptr<Store> store, std::string prefix)
      : store_(std::move(store)), prefix_(std::move(prefix) + "/") {}

  absl::Status Set(std::string_view key, std::string_view value,
                   absl::Time deadline) override {
    return store_->Set(Prefixed(key), value, deadline);
  }

  absl::StatusOr<std::string> Get(std::string_view key,
                                  absl::Time deadline) override {
    return store_->Get(Prefixed(key), deadline);
  }

  absl::StatusOr<std::string> TryGet(std::string_view key,
                                     absl::Time deadline) override {
    return store_->TryGet(Prefixed(key), deadline);
  }

  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline) override {
    return store_->CompareSet(Prefixed(key), expected, desired, deadline);
  }

  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                              absl::Time deadline) override {
    return store_->Add(Prefixed(key), delta, deadline);
  }

  absl::StatusOr<bool> Delete(std::string_view key,
                              absl::Time deadline) override {
    return store_->Delete(Prefixed(key), deadline);
  }

 private:
  std::string Prefixed(std::string_view key) const {
    std::string prefixed;
    prefixed.reserve(prefix_.size() + key.size());
    return prefixed.append(prefix_).append(key);
  }

  const std::shared_ptr<Store> store_;
  const std::string prefix_;
};

}  // namespace

std::shared_ptr<Store> MakePrefixStore(std::shared_ptr<Store> store,
                                       std::string prefix) {
  return std::make_shared<PrefixStore>(std::move(store), std::move(prefix));
}

}  // namespace reprise
