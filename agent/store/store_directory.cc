#include "agent/store/store_directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/store/file_store.h"
#include "agent/store/store_status.h"

namespace reprise {
namespace {

constexpr char kLockName[] = "lock";
constexpr char kTemporaryPrefix[] = "tmp-";
// The mode before the umask is applied.
constexpr mode_t kFileMode = 0666;

}  // namespace

absl::StatusOr<StoreDirectory> StoreDirectory::Open(std::string path) {
  FileDescriptor directory;
  const int error =
      OpenAt(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, directory);
  if (error != 0) return FileError(error, "open directory", path);
  return StoreDirectory(std::move(path), std::move(directory));
}

absl::StatusOr<StoreDirectory> StoreDirectory::Create(std::string path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return FileError(error.value(), "create directory", path);
  return Open(std::move(path));
}

StoreDirectory::Lock::~Lock() {
  // Closing is not enough: a process forked meanwhile has a copy of the
  // descriptor, which would keep the lock.
  if (file_.get() >= 0) flock(file_.get(), LOCK_UN);
}

absl::StatusOr<std::optional<StoreDirectory::Lock>> StoreDirectory::TryLock() {
  // The lock belongs to the open file and not to the process, so it also
  // excludes other threads.
  FileDescriptor file;
  const int error = OpenAt(directory_.get(), kLockName,
                           O_RDWR | O_CREAT | O_NOFOLLOW, kFileMode, file);
  if (error != 0) return Error(error, "open", kLockName);
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK || errno == EINTR) return std::nullopt;
    return Error(errno, "lock", kLockName);
  }
  Lock lock(std::move(file));
  return lock;
}

absl::StatusOr<std::optional<std::string>> StoreDirectory::Read(
    const std::string& name) {
  FileDescriptor file;
  int error = OpenAt(directory_.get(), name, O_RDONLY | O_NOFOLLOW, 0, file);
  if (error == ENOENT) return std::nullopt;
  if (error != 0) return Error(error, "open", name);
  std::string value;
  error = ReadToEnd(file, kMaxFileStoreValueBytes, value);
  if (error == EFBIG) return TooLong("read", name);
  if (error != 0) return Error(error, "read", name);
  return value;
}

absl::Status StoreDirectory::Write(const std::string& name,
                                   std::string_view value) {
  if (value.size() > kMaxFileStoreValueBytes) return TooLong("write", name);
  // A name may have been left by a dead process with our id.
  FileDescriptor file;
  std::string temporary;
  int error = EEXIST;
  for (uint64_t n = 0; error == EEXIST; ++n) {
    temporary = absl::StrCat(kTemporaryPrefix, getpid(), "-", n);
    error = OpenAt(directory_.get(), temporary,
                   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, kFileMode, file);
  }
  if (error != 0) return Error(error, "create", temporary);

  std::string_view action = "write";
  error = WriteAll(file, value);
  if (error == 0) {
    action = "rename";
    if (renameat(directory_.get(), temporary.c_str(), directory_.get(),
                 name.c_str()) != 0) {
      error = errno;
    }
  }
  if (error == 0) return absl::OkStatus();
  unlinkat(directory_.get(), temporary.c_str(), 0);
  return Error(error, action, absl::StrCat(temporary, " for ", name));
}

absl::StatusOr<bool> StoreDirectory::Remove(const std::string& name) {
  if (unlinkat(directory_.get(), name.c_str(), 0) == 0) return true;
  if (errno == ENOENT) return false;
  return Error(errno, "remove", name);
}

void StoreDirectory::RemoveTemporaries() {
  // Closing the stream closes its descriptor, so it gets one of its own.
  FileDescriptor again;
  if (OpenAt(directory_.get(), ".", O_RDONLY | O_DIRECTORY, 0, again) != 0) {
    return;
  }
  DIR* const entries = fdopendir(again.get());
  if (entries == nullptr) return;
  again.Release();
  while (const dirent* entry = readdir(entries)) {
    if (absl::StartsWith(entry->d_name, kTemporaryPrefix)) {
      unlinkat(directory_.get(), entry->d_name, 0);
    }
  }
  closedir(entries);
}

absl::Status StoreDirectory::TooLong(std::string_view action,
                                     std::string_view name) const {
  return absl::InvalidArgumentError(absl::StrCat(
      "file store: cannot ", std::string(action), " ", path_, "/",
      std::string(name), ": more than ", kMaxFileStoreValueBytes, " bytes"));
}

absl::Status StoreDirectory::Error(int error_number, std::string_view action,
                                   std::string_view name) const {
  return FileError(error_number, action,
                   absl::StrCat(path_, "/", std::string(name)));
}

}  // namespace reprise
