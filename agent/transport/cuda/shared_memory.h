// Memory that two processes of one host share, as the channels cuda_direct and
// cuda_host use it. A simulated world has an implementation of its own.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_SHARED_MEMORY_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_SHARED_MEMORY_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace reprise {

// A mapping that can be read and written, as long as this object lives.
class SharedSegment {
 public:
  virtual ~SharedSegment() = default;
  virtual char* data() = 0;  // whole pages
  virtual size_t num_bytes() const = 0;
  // Under which other processes of this host find it. "" where it was opened.
  virtual const std::string& name() const = 0;
};

// Thread-safe. Its segments may outlive it.
class SharedMemory {
 public:
  // No name, of a segment or of a process, is longer.
  static constexpr size_t kMaxNameBytes = 79;

  virtual ~SharedMemory() = default;

  // Zero bytes. Others can open it while the returned object lives; its size
  // can never be changed. RESOURCE_EXHAUSTED.
  virtual absl::StatusOr<std::unique_ptr<SharedSegment>> Create(
      size_t num_bytes) = 0;
  // Maps a segment that some process made, which is not trusted: the result is
  // memory of exactly that size which cannot be cut off, and was made under
  // that name. INVALID_ARGUMENT, NOT_FOUND.
  virtual absl::StatusOr<std::unique_ptr<SharedSegment>> Open(
      const std::string& name, size_t num_bytes) = 0;

  // Identifies this process among all that this host ever ran.
  virtual std::string ProcessName() = 0;
  // False when the process of that name has ended, or there never was one.
  virtual bool IsAlive(const std::string& process_name) = 0;
};

// Sealed files in memory that are opened through /proc. Lives as long as the
// process.
SharedMemory& RealSharedMemory();

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_SHARED_MEMORY_H_
