#include "agent/store/c10d_file_store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "agent/store/backoff.h"
#include "agent/store/c10d_file_log.h"
#include "agent/store/file_store.h"
#include "agent/store/posix_file.h"
#include "agent/store/store_status.h"

namespace reprise {
namespace {

constexpr absl::Duration kFirstPause = absl::Microseconds(200);
constexpr absl::Duration kLongestPause = absl::Milliseconds(10);
// The mode before the umask is applied.
constexpr mode_t kFileMode = 0666;
// More than this is not read at a time.
constexpr size_t kMaxFileBytes = size_t{1} << 30;

// Of what was read last, so many bytes are compared at the next look.
constexpr size_t kRemembered = 256;

class C10dFileStore : public Store {
 public:
  C10dFileStore(Runtime& runtime, std::string path)
      : runtime_(runtime),
        path_(std::move(path)),
        mutex_(runtime, "c10d_file_store") {}

  absl::Status Set(std::string_view key, std::string_view value,
                   absl::Time deadline) override {
    return Change("Set", key, deadline,
                  [&](const Present&) -> absl::StatusOr<std::string> {
                    return Record(key, value);
                  });
  }

  absl::StatusOr<std::string> Get(std::string_view key,
                                  absl::Time deadline) override {
    if (runtime_.Now() >= deadline) return StoreDeadlineExceeded("Get", key);
    Backoff backoff(runtime_, kFirstPause, kLongestPause, deadline);
    do {
      absl::StatusOr<Present> value = Look("Get", key, deadline);
      if (!value.ok()) return value.status();
      if (value->has_value()) return **std::move(value);
    } while (backoff.Pause());
    return StoreDeadlineExceeded("Get", key);
  }

  absl::StatusOr<std::string> TryGet(std::string_view key,
                                     absl::Time deadline) override {
    if (runtime_.Now() >= deadline) return StoreDeadlineExceeded("TryGet", key);
    absl::StatusOr<Present> value = Look("TryGet", key, deadline);
    if (!value.ok()) return value.status();
    if (value->has_value()) return **std::move(value);
    return absl::NotFoundError(
        absl::StrCat("store: no key ", PrintableKey(key), " in ", path_));
  }

  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline) override {
    std::string result(desired);
    const absl::Status status =
        Change("CompareSet", key, deadline,
               [&](const Present& present) -> absl::StatusOr<std::string> {
                 if (present.value_or("") == expected) {
                   return Record(key, desired);
                 }
                 result = present.value_or(std::string(expected));
                 return "";
               });
    if (!status.ok()) return status;
    return result;
  }

  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                              absl::Time deadline) override {
    int64_t result = 0;
    const absl::Status status =
        Change("Add", key, deadline,
               [&](const Present& present) -> absl::StatusOr<std::string> {
                 const absl::StatusOr<int64_t> sum = AddToCounter(
                     present.value_or("0"), delta,
                     absl::StrCat("key ", PrintableKey(key), " in ", path_));
                 if (!sum.ok()) return sum.status();
                 result = *sum;
                 return Record(key, absl::StrCat(*sum));
               });
    if (!status.ok()) return status;
    return result;
  }

  absl::StatusOr<bool> Delete(std::string_view key,
                              absl::Time deadline) override {
    bool was_there = false;
    const absl::Status status =
        Change("Delete", key, deadline,
               [&](const Present& present) -> absl::StatusOr<std::string> {
                 was_there = present.has_value();
                 if (!was_there) return "";
                 return C10dFileRecord(kC10dDeletedPrefix, key, "");
               });
    if (!status.ok()) return status;
    return was_there;
  }

 private:
  using Present = std::optional<std::string>;
  // The record to append, or "" for none.
  using MakeRecord =
      absl::FunctionRef<absl::StatusOr<std::string>(const Present&)>;

  // Open and locked. The lock belongs to the open file, so it excludes other
  // threads too.
  class Locked {
   public:
    explicit Locked(FileDescriptor file) : file_(std::move(file)) {}
    Locked(Locked&&) = default;
    // Closing is not enough: see StoreDirectory::Lock.
    ~Locked() {
      if (file_.get() >= 0) flock(file_.get(), LOCK_UN);
    }
    const FileDescriptor& file() const { return file_; }

   private:
    FileDescriptor file_;
  };

  absl::StatusOr<std::string> Record(std::string_view key,
                                     std::string_view value) const {
    if (value.size() > kMaxFileStoreValueBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "file store: cannot write ", PrintableKey(key), " to ", path_,
          ": more than ", kMaxFileStoreValueBytes, " bytes"));
    }
    return C10dFileRecord(kC10dKeyPrefix, key, value);
  }

  absl::Status Error(int error_number, std::string_view action) const {
    return FileError(error_number, action, path_);
  }

  absl::StatusOr<Locked> Lock(int operation, std::string_view call,
                              std::string_view key, absl::Time deadline) {
    Backoff backoff(runtime_, kFirstPause, kLongestPause, deadline);
    do {
      FileDescriptor file;
      // O_RDWR also to read: only so the file is made for others to find.
      const int error =
          OpenAt(AT_FDCWD, path_, O_RDWR | O_CREAT | O_APPEND, kFileMode, file);
      if (error != 0) return Error(error, "open");
      if (flock(file.get(), operation | LOCK_NB) == 0) {
        // Who was the last to use it has removed it meanwhile.
        if (!IsAtPath(file)) continue;
        return Locked(std::move(file));
      }
      if (errno != EWOULDBLOCK && errno != EINTR) return Error(errno, "lock");
    } while (backoff.Pause());
    const absl::Status late = StoreDeadlineExceeded(call, key);
    return absl::DeadlineExceededError(absl::StrCat(
        late.message(), ": another process or thread has locked ", path_));
  }

  bool IsAtPath(const FileDescriptor& file) const {
    struct stat opened;
    struct stat present;
    return fstat(file.get(), &opened) == 0 &&
           stat(path_.c_str(), &present) == 0 &&
           opened.st_dev == present.st_dev && opened.st_ino == present.st_ino;
  }

  // Whether what was read last is still where it was. A file that was removed
  // and made again often has the same inode.
  bool HasGrownOnly(const FileDescriptor& file) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::string present(last_bytes_.size(), '\0');
    return pread(file.get(), present.data(), present.size(),
                 static_cast<off_t>(log_.num_bytes() - present.size())) ==
               static_cast<ssize_t>(present.size()) &&
           present == last_bytes_;
  }

  // After `bytes` were read into the log.
  void NoteRead(std::string_view bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    last_bytes_.append(bytes);
    if (last_bytes_.size() > kRemembered) {
      last_bytes_.erase(0, last_bytes_.size() - kRemembered);
    }
  }

  // Reads what was written since the last time. The file is locked.
  absl::Status Refresh(const FileDescriptor& file)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    struct stat status;
    if (fstat(file.get(), &status) != 0) return Error(errno, "look at");
    const auto size = static_cast<size_t>(status.st_size);
    // It may have been removed, and made again.
    if (status.st_ino != inode_ || size < log_.num_bytes() ||
        !HasGrownOnly(file)) {
      log_ = C10dFileLog();
      last_bytes_.clear();
      inode_ = status.st_ino;
    }
    if (size == log_.num_bytes() && S_ISREG(status.st_mode)) {
      return absl::OkStatus();
    }
    if (lseek(file.get(), static_cast<off_t>(log_.num_bytes()), SEEK_SET) < 0) {
      return Error(errno, "read");
    }
    std::string records;
    const int error = ReadToEnd(file, kMaxFileBytes, records);
    if (error != 0) return Error(error, "read");
    const absl::Status read = log_.Read(records);
    if (read.ok()) {
      NoteRead(records);
      return read;
    }
    log_ = C10dFileLog();
    last_bytes_.clear();
    return absl::FailedPreconditionError(
        absl::StrCat("file store: ", path_,
                     " is no file of PyTorch's FileStore, or a "
                     "worker was killed while it wrote (",
                     read.message(), "); take another file"));
  }

  absl::StatusOr<Present> Look(std::string_view call, std::string_view key,
                               absl::Time deadline) {
    absl::StatusOr<Locked> locked = Lock(LOCK_SH, call, key, deadline);
    if (!locked.ok()) return locked.status();
    MutexLock lock(mutex_);
    if (auto status = Refresh(locked->file()); !status.ok()) return status;
    return log_.Find(key);
  }

  absl::Status Change(std::string_view call, std::string_view key,
                      absl::Time deadline, MakeRecord make_record) {
    if (runtime_.Now() >= deadline) return StoreDeadlineExceeded(call, key);
    absl::StatusOr<Locked> locked = Lock(LOCK_EX, call, key, deadline);
    if (!locked.ok()) return locked.status();
    MutexLock lock(mutex_);
    if (auto status = Refresh(locked->file()); !status.ok()) return status;
    absl::StatusOr<std::string> record = make_record(log_.Find(key));
    if (!record.ok()) return record.status();
    if (record->empty()) return absl::OkStatus();
    const int error = WriteAll(locked->file(), *record);
    if (error == 0) {
      NoteRead(*record);
      return log_.Read(*record);
    }
    // A part of a record must not stay. Nobody else writes.
    if (ftruncate(locked->file().get(), static_cast<off_t>(log_.num_bytes())) !=
        0) {
      return Error(errno, "mend");
    }
    return Error(error, "write to");
  }

  Runtime& runtime_;
  const std::string path_;
  // Taken while the file is locked.
  Mutex mutex_;
  C10dFileLog log_ ABSL_GUARDED_BY(mutex_);
  ino_t inode_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string last_bytes_ ABSL_GUARDED_BY(mutex_);  // that the log was given
};

}  // namespace

absl::StatusOr<std::shared_ptr<Store>> OpenC10dFileStore(
    Runtime& runtime, const std::string& path) {
  absl::StatusOr<std::string> absolute = AbsolutePath(path, "file");
  if (!absolute.ok()) return absolute.status();
  return std::make_shared<C10dFileStore>(runtime, *std::move(absolute));
}

}  // namespace reprise
