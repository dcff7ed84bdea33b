#include "agent/transport/shm/ring.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "uv.h"

namespace reprise::shm {

int Ring::Make(size_t size, Files& files) {
  Segment header;
  Segment data;
  if (const int error = MakeSegment(sizeof(RingHeader), header); error != 0) {
    return error;
  }
  if (const int error = MakeSegment(size, data); error != 0) return error;
  header_ = std::move(header.memory);
  data_ = std::move(data.memory);
  files = {std::move(header.file), std::move(data.file)};
  RingHeader& fields = this->header();
  fields.size.store(size, std::memory_order_relaxed);
  fields.mask.store(size - 1, std::memory_order_relaxed);
  fields.reprise.store(kReprise, std::memory_order_relaxed);
  return 0;
}

int Ring::MapPeer(int header, int data, bool may_be_unsealed) {
  constexpr SizeLimits kHeaderLimits = {sizeof(RingHeader), sizeof(RingHeader)};
  constexpr SizeLimits kDataLimits = {kMinRingBytes, kMaxRingBytes};
  if (const int error =
          MapPeerSegment(header, kHeaderLimits, may_be_unsealed, header_);
      error != 0) {
    return error;
  }
  if (const int error =
          MapPeerSegment(data, kDataLimits, may_be_unsealed, data_);
      error != 0) {
    return error;
  }
  const bool is_power_of_two = (size() & mask()) == 0;
  return is_power_of_two &&
                 this->header().size.load(std::memory_order_relaxed) == size()
             ? 0
             : UV_EPROTO;
}

bool RingReader::Refresh() {
  const uint64_t head = ring_.header().head.load(std::memory_order_acquire);
  // The head never goes back, and never beyond the room in the ring.
  if (head - head_ > ring_.size() - (head_ - tail_)) return false;
  head_ = head;
  return true;
}

void RingReader::Peek(void* to, size_t size) const {
  const uint64_t at = tail_ & ring_.mask();
  const size_t first = std::min<uint64_t>(size, ring_.size() - at);
  std::memcpy(to, ring_.data() + at, first);
  std::memcpy(static_cast<char*>(to) + first, ring_.data(), size - first);
}

std::string_view RingReader::Contiguous() const {
  const uint64_t at = tail_ & ring_.mask();
  return {ring_.data() + at, std::min(readable(), ring_.size() - at)};
}

void RingReader::Publish() {
  ring_.header().tail.store(tail_, std::memory_order_release);
}

bool RingWriter::Refresh() {
  const uint64_t tail = ring_.header().tail.load(std::memory_order_acquire);
  if (tail - tail_ > head_ - tail_) return false;
  tail_ = tail;
  return true;
}

void RingWriter::Append(const void* bytes, size_t size) {
  const uint64_t at = head_ & ring_.mask();
  const size_t first = std::min<uint64_t>(size, ring_.size() - at);
  std::memcpy(ring_.data() + at, bytes, first);
  std::memcpy(ring_.data(), static_cast<const char*>(bytes) + first,
              size - first);
  head_ += size;
}

void RingWriter::Publish() {
  ring_.header().head.store(head_, std::memory_order_release);
}

}  // namespace reprise::shm
