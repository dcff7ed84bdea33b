// Addresses for bytes that are received and thrown away.
//
// TensorPipe reads the parts of a message into memory of their full sizes. What
// is beyond our limits is to take no such memory, and still to be read, so that
// the messages after it can be. So a range of addresses repeats a few pages.

#ifndef REPRISE_AGENT_WIRE_DISCARD_MEMORY_H_
#define REPRISE_AGENT_WIRE_DISCARD_MEMORY_H_

#include <cstddef>
#include <utility>

#include "absl/status/statusor.h"

namespace reprise {

// Owns its range. Thread-compatible; what is written there is lost.
class DiscardMemory {
 public:
  // More than that is not received only to be thrown away.
  static constexpr size_t kMaxBytes = size_t{1} << 40;

  DiscardMemory() = default;
  DiscardMemory(DiscardMemory&& other) noexcept { *this = std::move(other); }
  DiscardMemory& operator=(DiscardMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
    return *this;
  }
  ~DiscardMemory();

  // A range of at least `num_bytes`, which takes at most 1/4096 of that in
  // memory, or 1 MiB. RESOURCE_EXHAUSTED beyond `kMaxBytes`, and when the
  // system has no room.
  static absl::StatusOr<DiscardMemory> Make(size_t num_bytes);

  char* data() const { return data_; }

 private:
  char* data_ = nullptr;
  size_t mapped_bytes_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_WIRE_DISCARD_MEMORY_H_
