// A file descriptor that is closed when its owner goes.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_FILE_DESCRIPTOR_H_
#define REPRISE_AGENT_TRANSPORT_SHM_FILE_DESCRIPTOR_H_

#include <unistd.h>

#include <utility>

namespace reprise::shm {

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
  ~FileDescriptor() { Close(); }

  // Negative when there is none.
  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

// Whether this process can open `count` more descriptors now. Other threads
// may take them before the caller does.
bool HasFreeDescriptors(int count);

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_FILE_DESCRIPTOR_H_
