#include "agent/store/memory_store.h"

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "agent/store/store_status.h"

namespace reprise {
namespace {

class MemoryStore : public Store {
 public:
  explicit MemoryStore(Runtime& runtime)
      : runtime_(runtime),
        mutex_(runtime, "memory_store"),
        written_(runtime, "memory_store.written") {}

  absl::Status Set(std::string_view key, std::string_view value,
                   absl::Time deadline) override {
    MutexLock lock(mutex_);
    if (Expired(deadline)) return StoreDeadlineExceeded("Set", key);
    Write(key, value);
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Get(std::string_view key,
                                  absl::Time deadline) override {
    MutexLock lock(mutex_);
    bool timed_out = Expired(deadline);
    while (!timed_out) {
      const auto found = values_.find(key);
      if (found != values_.end()) return found->second;
      // A last look after the time-out: the write may have come with it.
      if (!written_.WaitUntil(mutex_, deadline)) {
        timed_out = values_.find(key) == values_.end();
      }
    }
    return StoreDeadlineExceeded("Get", key);
  }

  absl::StatusOr<std::string> TryGet(std::string_view key,
                                     absl::Time deadline) override {
    MutexLock lock(mutex_);
    if (Expired(deadline)) return StoreDeadlineExceeded("TryGet", key);
    const auto found = values_.find(key);
    if (found != values_.end()) return found->second;
    return absl::NotFoundError(
        absl::StrCat("store: no key ", PrintableKey(key)));
  }

  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline) override {
    MutexLock lock(mutex_);
    if (Expired(deadline)) return StoreDeadlineExceeded("CompareSet", key);
    const auto found = values_.find(key);
    if (found == values_.end()) {
      if (!expected.empty()) return std::string(expected);
    } else if (found->second != expected) {
      return found->second;
    }
    Write(key, desired);
    return std::string(desired);
  }

  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                              absl::Time deadline) override {
    MutexLock lock(mutex_);
    if (Expired(deadline)) return StoreDeadlineExceeded("Add", key);
    const auto found = values_.find(key);
    absl::StatusOr<int64_t> sum =
        AddToCounter(found == values_.end() ? "0" : found->second, delta,
                     absl::StrCat("key ", PrintableKey(key)));
    if (sum.ok()) Write(key, absl::StrCat(*sum));
    return sum;
  }

  absl::StatusOr<bool> Delete(std::string_view key,
                              absl::Time deadline) override {
    MutexLock lock(mutex_);
    if (Expired(deadline)) return StoreDeadlineExceeded("Delete", key);
    const auto found = values_.find(key);
    if (found == values_.end()) return false;
    values_.erase(found);
    return true;
  }

 private:
  bool Expired(absl::Time deadline) { return runtime_.Now() >= deadline; }

  void Write(std::string_view key, std::string_view value)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    values_.insert_or_assign(std::string(key), std::string(value));
    written_.NotifyAll();
  }

  Runtime& runtime_;
  Mutex mutex_;
  CondVar written_;
  std::map<std::string, std::string, std::less<>> values_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::shared_ptr<Store> MakeMemoryStore(Runtime& runtime) {
  return std::make_shared<MemoryStore>(runtime);
}

}  // namespace reprise
