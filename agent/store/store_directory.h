// The directory of a file store (see file_store.h), without keys, clocks or
// waiting: named values that are replaced as a whole, and a lock.

#ifndef REPRISE_AGENT_STORE_STORE_DIRECTORY_H_
#define REPRISE_AGENT_STORE_STORE_DIRECTORY_H_

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/store/posix_file.h"

namespace reprise {

// The directory that was found at `path` when it was opened, even if it has
// been moved or replaced since: a lock and what is written under it belong to
// the same one. It is meant to live for one call and is not thread-safe. Errors
// are as in file_store.h and never NOT_FOUND or DEADLINE_EXCEEDED.
class StoreDirectory {
 public:
  static absl::StatusOr<StoreDirectory> Open(std::string path);
  // The same, but creates the directories of the path that are missing.
  static absl::StatusOr<StoreDirectory> Create(std::string path);

  // Releases the lock when it is destroyed.
  class Lock {
   public:
    explicit Lock(FileDescriptor file) : file_(std::move(file)) {}
    Lock(Lock&&) = default;
    ~Lock();

   private:
    FileDescriptor file_;
  };

  // Does not wait: nullopt when another thread or process holds the lock.
  absl::StatusOr<std::optional<Lock>> TryLock();

  // nullopt when there is no such file.
  absl::StatusOr<std::optional<std::string>> Read(const std::string& name);

  // The functions below must be called with the lock held.
  absl::Status Write(const std::string& name, std::string_view value);
  absl::StatusOr<bool> Remove(const std::string& name);
  // Removes the files that dead writers left.
  void RemoveTemporaries();

 private:
  StoreDirectory(std::string path, FileDescriptor directory)
      : path_(std::move(path)), directory_(std::move(directory)) {}

  absl::Status TooLong(std::string_view action, std::string_view name) const;
  absl::Status Error(int error_number, std::string_view action,
                     std::string_view name) const;

  std::string path_;
  FileDescriptor directory_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_STORE_DIRECTORY_H_
