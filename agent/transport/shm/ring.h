// The rings in shared memory: a header and bytes, one end that writes them and
// one that reads them.
//
// The other end may write anything anywhere at any time. So an end keeps size
// and its own marker in private memory, never reads back what it has published,
// and reads the other's marker once and checks it. Bytes are to be copied out
// before they are looked at.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_RING_H_
#define REPRISE_AGENT_TRANSPORT_SHM_RING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/transport/shm/file_descriptor.h"
#include "agent/transport/shm/segment.h"

namespace reprise::shm {

// As TensorPipe lays it out, which leaves the six bytes of `reprise` and
// `is_asleep` zero and never looks at them. Markers count bytes since the
// beginning and never wrap; the place of a byte is its number modulo the size.
struct RingHeader {
  std::atomic<uint64_t> size;
  std::atomic<uint64_t> mask;          // size - 1
  std::atomic<uint8_t> consumer_flag;  // held while it takes from the ring
  std::atomic<uint8_t> producer_flag;  // held while it adds to the ring
  std::atomic<uint16_t> reprise;       // kReprise: this file is one of ours
  std::atomic<uint32_t> is_asleep;     // its owner waits for a byte
  std::atomic<uint64_t> tail;          // bytes read
  std::atomic<uint64_t> head;          // bytes written
};
static_assert(sizeof(RingHeader) == 40 && offsetof(RingHeader, tail) == 24 &&
              offsetof(RingHeader, is_asleep) == 20);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

inline constexpr uint16_t kReprise = 0x5052;

// What a peer's ring may measure.
inline constexpr size_t kMinRingBytes = size_t{4} << 10;
inline constexpr size_t kMaxRingBytes = size_t{64} << 20;

// One ring's memory. Of a peer's ring, `size` is the size of the file.
class Ring {
 public:
  struct Files {
    FileDescriptor header;
    FileDescriptor data;
  };

  // Makes one; `size` is a power of two. 0 or an error of libuv's.
  int Make(size_t size, Files& files);
  // Maps a peer's (see `MapPeerSegment`), whose header must agree.
  int MapPeer(int header, int data, bool may_be_unsealed);

  RingHeader& header() const {
    return *reinterpret_cast<RingHeader*>(header_.data());
  }
  char* data() const { return data_.data(); }
  uint64_t size() const { return data_.size(); }
  uint64_t mask() const { return data_.size() - 1; }

 private:
  Mapping header_;
  Mapping data_;
};

// Reads what the other end writes to `ring`, which must outlive it.
class RingReader {
 public:
  explicit RingReader(Ring& ring) : ring_(ring) {}

  // Looks how much has come. False when the writer's marker makes no sense.
  bool Refresh();
  uint64_t readable() const { return head_ - tail_; }
  // Copies bytes out without consuming them; at most `readable()`.
  void Peek(void* to, size_t size) const;
  // As much of what is readable as lies in one piece.
  std::string_view Contiguous() const;
  // Has read `size` bytes; the writer sees it once it is published.
  void Consume(uint64_t size) { tail_ += size; }
  void Publish();

 private:
  Ring& ring_;
  uint64_t head_ = 0;  // as it was last looked at
  uint64_t tail_ = 0;
};

// Writes to `ring`, which must outlive it.
class RingWriter {
 public:
  explicit RingWriter(Ring& ring) : ring_(ring) {}

  // Looks how much has been read. False when the reader's marker makes no
  // sense.
  bool Refresh();
  uint64_t writable() const { return ring_.size() - (head_ - tail_); }
  // At most `writable()`; the reader sees it once it is published.
  void Append(const void* bytes, size_t size);
  void Publish();
  // Whether the reader has read everything, as it was last looked at.
  bool is_read() const { return head_ == tail_; }
  uint64_t size() const { return ring_.size(); }
  // Bytes since the beginning.
  uint64_t written() const { return head_; }

 private:
  Ring& ring_;
  uint64_t head_ = 0;
  uint64_t tail_ = 0;  // as it was last looked at
};

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_RING_H_
