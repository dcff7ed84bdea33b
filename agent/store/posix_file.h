// Thin wrappers over POSIX files that own the descriptor, restart what a
// signal interrupted and report `errno` values.

#ifndef REPRISE_AGENT_STORE_POSIX_FILE_H_
#define REPRISE_AGENT_STORE_POSIX_FILE_H_

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace reprise {

// Owns a descriptor, or none.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();

  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// Below, 0 means success and any other result is an `errno` value.

// Opens `name` relative to `directory`, which may be AT_FDCWD. Adds O_CLOEXEC,
// and O_NONBLOCK so that a pipe in a file's place cannot block.
int OpenAt(int directory, const std::string& name, int flags, mode_t mode,
           FileDescriptor& opened);

// Appends to `bytes` from the present position to the end of the file. EFBIG
// when that is more than `max_bytes`, EINVAL when the file is not a regular
// one.
int ReadToEnd(const FileDescriptor& file, size_t max_bytes, std::string& bytes);

int WriteAll(const FileDescriptor& file, std::string_view bytes);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_POSIX_FILE_H_
