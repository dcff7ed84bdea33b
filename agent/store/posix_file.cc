#include "agent/store/posix_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

namespace reprise {

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

int OpenAt(int directory, const std::string& name, int flags, mode_t mode,
           FileDescriptor& opened) {
  int fd = -1;
  do {
    fd = openat(directory, name.c_str(), flags | O_CLOEXEC | O_NONBLOCK, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return errno;
  opened = FileDescriptor(fd);
  return 0;
}

int ReadToEnd(const FileDescriptor& file, size_t max_bytes,
              std::string& bytes) {
  struct stat status;
  if (fstat(file.get(), &status) != 0) return errno;
  if (!S_ISREG(status.st_mode)) return EINVAL;
  std::array<char, 16384> buffer;
  size_t total = 0;
  for (;;) {
    const ssize_t count = read(file.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    if (count == 0) return 0;
    total += static_cast<size_t>(count);
    if (total > max_bytes) return EFBIG;
    bytes.append(buffer.data(), static_cast<size_t>(count));
  }
}

int WriteAll(const FileDescriptor& file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(file.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return 0;
}

}  // namespace reprise
