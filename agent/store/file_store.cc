#include "agent/store/file_store.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/store/backoff.h"
#include "agent/store/file_key.h"
#include "agent/store/store_directory.h"
#include "agent/store/store_status.h"

namespace reprise {
namespace {

constexpr absl::Duration kFirstPause = absl::Microseconds(200);
constexpr absl::Duration kLongestPause = absl::Milliseconds(10);

class FileStore : public Store {
 public:
  FileStore(Runtime& runtime, std::string path)
      : runtime_(runtime), path_(std::move(path)) {}

  absl::Status Set(std::string_view key, std::string_view value,
                   absl::Time deadline) override {
    absl::StatusOr<Locked> locked = Lock("Set", key, deadline);
    if (!locked.ok()) return locked.status();
    return locked->directory.Write(KeyFileName(key), value);
  }

  absl::StatusOr<std::string> Get(std::string_view key,
                                  absl::Time deadline) override {
    if (runtime_.Now() >= deadline) return StoreDeadlineExceeded("Get", key);
    Backoff backoff(runtime_, kFirstPause, kLongestPause, deadline);
    do {
      absl::StatusOr<std::optional<std::string>> value = Read(key);
      if (!value.ok()) return value.status();
      if (value->has_value()) return **std::move(value);
    } while (backoff.Pause());
    return StoreDeadlineExceeded("Get", key);
  }

  absl::StatusOr<std::string> TryGet(std::string_view key,
                                     absl::Time deadline) override {
    if (runtime_.Now() >= deadline) return StoreDeadlineExceeded("TryGet", key);
    absl::StatusOr<std::optional<std::string>> value = Read(key);
    if (!value.ok()) return value.status();
    if (value->has_value()) return **std::move(value);
    return absl::NotFoundError(
        absl::StrCat("store: no key ", PrintableKey(key), " in ", path_));
  }

  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline) override {
    absl::StatusOr<Locked> locked = Lock("CompareSet", key, deadline);
    if (!locked.ok()) return locked.status();
    const std::string name = KeyFileName(key);
    absl::StatusOr<std::optional<std::string>> present =
        locked->directory.Read(name);
    if (!present.ok()) return present.status();
    if (present->value_or("") != expected) {
      return present->has_value() ? **std::move(present)
                                  : std::string(expected);
    }
    const absl::Status written = locked->directory.Write(name, desired);
    if (!written.ok()) return written;
    return std::string(desired);
  }

  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                              absl::Time deadline) override {
    absl::StatusOr<Locked> locked = Lock("Add", key, deadline);
    if (!locked.ok()) return locked.status();
    const std::string name = KeyFileName(key);
    const absl::StatusOr<std::optional<std::string>> present =
        locked->directory.Read(name);
    if (!present.ok()) return present.status();
    const absl::StatusOr<int64_t> sum = AddToCounter(
        present->value_or("0"), delta,
        absl::StrCat("key ", PrintableKey(key), " in ", path_, "/", name));
    if (!sum.ok()) return sum.status();
    const absl::Status written =
        locked->directory.Write(name, absl::StrCat(*sum));
    if (!written.ok()) return written;
    return *sum;
  }

  absl::StatusOr<bool> Delete(std::string_view key,
                              absl::Time deadline) override {
    absl::StatusOr<Locked> locked = Lock("Delete", key, deadline);
    if (!locked.ok()) return locked.status();
    return locked->directory.Remove(KeyFileName(key));
  }

 private:
  struct Locked {
    StoreDirectory directory;
    StoreDirectory::Lock lock;
  };

  absl::StatusOr<Locked> Lock(std::string_view call, std::string_view key,
                              absl::Time deadline) {
    if (runtime_.Now() >= deadline) return StoreDeadlineExceeded(call, key);
    Backoff backoff(runtime_, kFirstPause, kLongestPause, deadline);
    do {
      absl::StatusOr<StoreDirectory> directory = StoreDirectory::Open(path_);
      if (!directory.ok()) return directory.status();
      absl::StatusOr<std::optional<StoreDirectory::Lock>> lock =
          directory->TryLock();
      if (!lock.ok()) return lock.status();
      if (lock->has_value()) {
        return Locked{*std::move(directory), **std::move(lock)};
      }
    } while (backoff.Pause());
    const absl::Status late = StoreDeadlineExceeded(call, key);
    return absl::DeadlineExceededError(absl::StrCat(
        late.message(), ": another process or thread holds ", path_, "/lock"));
  }

  absl::StatusOr<std::optional<std::string>> Read(std::string_view key) {
    absl::StatusOr<StoreDirectory> directory = StoreDirectory::Open(path_);
    if (!directory.ok()) return directory.status();
    return directory->Read(KeyFileName(key));
  }

  Runtime& runtime_;
  const std::string path_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<Store>> OpenFileStore(
    Runtime& runtime, const std::string& directory) {
  const absl::StatusOr<std::string> path = AbsolutePath(directory, "directory");
  if (!path.ok()) return path.status();
  absl::StatusOr<StoreDirectory> opened = StoreDirectory::Create(*path);
  if (!opened.ok()) return opened.status();
  const absl::StatusOr<std::optional<StoreDirectory::Lock>> lock =
      opened->TryLock();
  if (!lock.ok()) return lock.status();
  // Under the lock no writer is at work. If another process holds it, the next
  // one to open the store cleans up.
  if (lock->has_value()) opened->RemoveTemporaries();
  return std::make_shared<FileStore>(runtime, *path);
}

}  // namespace reprise
