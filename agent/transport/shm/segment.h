// Shared memory: files in memory, and their mappings.
//
// Our own files are sealed, so that nobody can make them shorter or longer, and
// sparse: a page takes memory once it is touched. A peer's file is mapped only
// after it has proved to be memory that cannot be cut off under us.
//
// Functions return 0 or an error of libuv's (a negative errno).

#ifndef REPRISE_AGENT_TRANSPORT_SHM_SEGMENT_H_
#define REPRISE_AGENT_TRANSPORT_SHM_SEGMENT_H_

#include <cstddef>
#include <utility>

#include "agent/transport/shm/file_descriptor.h"

namespace reprise::shm {

// A shared mapping that can be read and written. It outlives the descriptor of
// its file.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Mapping();

  int Map(int fd, size_t size);
  char* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

struct Segment {
  FileDescriptor file;
  Mapping memory;
};

// Makes a sealed file of `size` zero bytes and maps it.
int MakeSegment(size_t size, Segment& segment);

struct SizeLimits {
  size_t min;
  size_t max;
};

// Maps all of a peer's file. UV_EPROTO unless it is ordinary shared memory of
// an allowed size; UV_EPERM when it could be truncated under us and
// `may_be_unsealed` is false.
int MapPeerSegment(int fd, const SizeLimits& limits, bool may_be_unsealed,
                   Mapping& memory);

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_SEGMENT_H_
