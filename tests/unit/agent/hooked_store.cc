#include "tests/unit/agent/hooked_store.h"

#include <utility>

#include "agent/runtime/runtime.h"
#include "agent/store/memory_store.h"

namespace reprise::testing {
namespace {

class HookedStore final : public Store {
 public:
  HookedStore(std::shared_ptr<Store> store, StoreHook before, StoreHook after)
      : store_(std::move(store)),
        before_(std::move(before)),
        after_(std::move(after)) {}

  absl::Status Set(std::string_view key, std::string_view value,
                   absl::Time deadline) override {
    return Around("Set", key,
                  [&] { return store_->Set(key, value, deadline); });
  }
  absl::StatusOr<std::string> Get(std::string_view key,
                                  absl::Time deadline) override {
    return Around("Get", key, [&] { return store_->Get(key, deadline); });
  }
  absl::StatusOr<std::string> TryGet(std::string_view key,
                                     absl::Time deadline) override {
    return Around("TryGet", key, [&] { return store_->TryGet(key, deadline); });
  }
  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline) override {
    return Around("CompareSet", key, [&] {
      return store_->CompareSet(key, expected, desired, deadline);
    });
  }
  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                              absl::Time deadline) override {
    return Around("Add", key,
                  [&] { return store_->Add(key, delta, deadline); });
  }
  absl::StatusOr<bool> Delete(std::string_view key,
                              absl::Time deadline) override {
    return Around("Delete", key, [&] { return store_->Delete(key, deadline); });
  }

 private:
  template <typename Access>
  auto Around(const std::string& call, std::string_view key, Access access)
      -> decltype(access()) {
    if (before_) {
      absl::Status status = before_(call, std::string(key));
      if (!status.ok()) return status;
    }
    auto result = access();
    if (after_) {
      absl::Status status = after_(call, std::string(key));
      if (!status.ok()) return status;
    }
    return result;
  }

  const std::shared_ptr<Store> store_;
  const StoreHook before_;
  const StoreHook after_;
};

}  // namespace

std::shared_ptr<Store> MakeHookedStore(std::shared_ptr<Store> store,
                                       StoreHook before, StoreHook after) {
  return std::make_shared<HookedStore>(std::move(store), std::move(before),
                                       std::move(after));
}

std::shared_ptr<Store> StockStore() {
  return MakeHookedStore(
      MakeMemoryStore(RealRuntime()),
      [](const std::string& call, const std::string& key) -> absl::Status {
        // Nor is it in the epoch of the group.
        if (call == "Get" && key.find("reprise/epoch/") == 0) {
          return absl::DeadlineExceededError("no mark");
        }
        if (call == "TryGet" && key.find("reprise/features/") == 0) {
          return absl::NotFoundError("");
        }
        return absl::OkStatus();
      },
      nullptr);
}

}  // namespace reprise::testing
