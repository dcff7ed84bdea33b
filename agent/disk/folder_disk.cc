#include "agent/disk/folder_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/disk/file_name.h"
#include "agent/store/posix_file.h"

namespace reprise {
namespace {

class FolderDisk final : public Disk {
 public:
  FolderDisk(std::string path, size_t max_file_bytes)
      : path_(std::move(path)), max_file_bytes_(max_file_bytes) {}

  absl::StatusOr<std::string> Read(std::string_view name) override {
    FileDescriptor file;
    if (absl::Status status = Open(name, O_RDONLY, file); !status.ok()) {
      return status;
    }
    std::string bytes;
    if (const int error = ReadToEnd(file, max_file_bytes_, bytes); error != 0) {
      return Error(error, "cannot read", name);
    }
    return bytes;
  }

  absl::Status Write(std::string_view name, std::string_view bytes) override {
    return WriteTo(name, O_TRUNC, bytes);
  }
  absl::Status Append(std::string_view name, std::string_view bytes) override {
    return WriteTo(name, O_APPEND, bytes);
  }

  absl::Status Sync(std::string_view name) override {
    FileDescriptor file;
    // Some file systems sync a file only for who may write to it.
    if (absl::Status status = Open(name, O_WRONLY, file); !status.ok()) {
      return status;
    }
    return fsync(file.get()) == 0 ? absl::OkStatus()
                                  : Error(errno, "cannot sync", name);
  }

  absl::Status Rename(std::string_view from, std::string_view to) override {
    absl::Status status = CheckFileName(from);
    if (status.ok()) status = CheckFileName(to);
    if (!status.ok()) return status;
    FileDescriptor folder;
    if (const int error = OpenFolder(folder); error != 0) {
      return Error(error, "cannot rename", from);
    }
    return renameat(folder.get(), std::string(from).c_str(), folder.get(),
                    std::string(to).c_str()) == 0
               ? absl::OkStatus()
               : Error(errno, "cannot rename", from);
  }

  absl::Status Remove(std::string_view name) override {
    if (absl::Status status = CheckFileName(name); !status.ok()) return status;
    FileDescriptor folder;
    if (const int error = OpenFolder(folder); error != 0) {
      return Error(error, "cannot remove", name);
    }
    return unlinkat(folder.get(), std::string(name).c_str(), 0) == 0
               ? absl::OkStatus()
               : Error(errno, "cannot remove", name);
  }

  absl::Status SyncNames() override {
    FileDescriptor folder;
    const int error = OpenFolder(folder);
    if (error == ENOENT) return absl::OkStatus();  // there are no names yet
    if (error != 0) return Error(error, "cannot sync", "");
    return fsync(folder.get()) == 0 ? absl::OkStatus()
                                    : Error(errno, "cannot sync", "");
  }

  absl::StatusOr<std::vector<std::string>> List() override {
    std::vector<std::string> names;
    FileDescriptor folder;
    const int error = OpenFolder(folder);
    if (error == ENOENT) return names;
    if (error != 0) return Error(error, "cannot list", "");
    const int fd = folder.get();
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(fd), closedir);
    if (stream == nullptr) return Error(errno, "cannot list", "");
    folder.Release();
    while (true) {
      errno = 0;
      const dirent* const entry = readdir(stream.get());
      if (entry == nullptr) break;
      struct stat status;
      if (CheckFileName(entry->d_name).ok() &&
          fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
          S_ISREG(status.st_mode)) {
        names.emplace_back(entry->d_name);
      }
    }
    if (errno != 0) return Error(errno, "cannot list", "");
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  // Returns an `errno` value, or 0.
  int OpenFolder(FileDescriptor& folder) const {
    return OpenAt(AT_FDCWD, path_, O_RDONLY | O_DIRECTORY, 0, folder);
  }

  // Makes a folder and those above it, and makes their names durable. Returns
  // an `errno` value, or 0.
  static int MakeFolder(const std::filesystem::path& path) {
    std::error_code error;
    if (path.empty() || std::filesystem::is_directory(path, error)) return 0;
    const std::filesystem::path above = path.parent_path();
    if (const int made = above == path ? 0 : MakeFolder(above); made != 0) {
      return made;
    }
    if (mkdir(path.c_str(), 0777) != 0 && errno != EEXIST) return errno;
    FileDescriptor opened;
    const int failed =
        OpenAt(AT_FDCWD, above.string(), O_RDONLY | O_DIRECTORY, 0, opened);
    if (failed != 0) return failed;
    return fsync(opened.get()) == 0 ? 0 : errno;
  }

  absl::Status Open(std::string_view name, int flags, FileDescriptor& file) {
    if (absl::Status status = CheckFileName(name); !status.ok()) return status;
    FileDescriptor folder;
    int error = OpenFolder(folder);
    if (error == ENOENT && (flags & O_CREAT) != 0) {
      if (const int made = MakeFolder(path_); made != 0) {
        return Error(made, "cannot make the folder of", name);
      }
      error = OpenFolder(folder);
    }
    if (error == 0) {
      error = OpenAt(folder.get(), std::string(name), flags | O_NOFOLLOW, 0666,
                     file);
    }
    return error == 0 ? absl::OkStatus() : Error(error, "cannot open", name);
  }

  absl::Status WriteTo(std::string_view name, int how, std::string_view bytes) {
    FileDescriptor file;
    if (absl::Status status = Open(name, O_WRONLY | O_CREAT | how, file);
        !status.ok()) {
      return status;
    }
    if (const int error = WriteAll(file, bytes); error != 0) {
      return Error(error, "cannot write", name);
    }
    // Some file systems tell of an error only now.
    return close(file.Release()) == 0 || errno == EINTR
               ? absl::OkStatus()
               : Error(errno, "cannot write", name);
  }

  absl::Status Error(int error, std::string_view action,
                     std::string_view name) const {
    const std::string text = absl::StrCat(
        "disk: ", std::string(action), " '", path_, name.empty() ? "" : "/",
        std::string(name), "': ", absl::ErrnoToStatus(error, "").message());
    switch (error) {
      case ENOENT:
        return absl::NotFoundError(text);
      case ENOSPC:
      case EDQUOT:
      case EFBIG:
      case EMFILE:
      case ENFILE:
      case ENOMEM:
        return absl::ResourceExhaustedError(text);
      default:
        return absl::UnavailableError(text);
    }
  }

  const std::string path_;
  const size_t max_file_bytes_;
};

}  // namespace

std::unique_ptr<Disk> MakeFolderDisk(const std::string& folder,
                                     size_t max_file_bytes) {
  // The process may change its directory later.
  std::error_code error;
  const std::filesystem::path path = std::filesystem::absolute(folder, error);
  return std::make_unique<FolderDisk>(error ? folder : path.string(),
                                      max_file_bytes);
}

}  // namespace reprise
