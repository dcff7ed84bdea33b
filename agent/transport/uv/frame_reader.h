// Cuts the bytes that arrive on a connection into frames, for the reads that
// wait.
//
// The peer is not trusted: for a frame whose length is not what its read
// allows, no memory is allocated or written.

#ifndef REPRISE_AGENT_TRANSPORT_UV_FRAME_READER_H_
#define REPRISE_AGENT_TRANSPORT_UV_FRAME_READER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "agent/transport/uv/first_frames.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/transport/connection.h"

namespace reprise {

// The longest frame that a connection takes in a read of any length, in bytes.
// Such frames are objects of TensorPipe's; the longest of them describe the
// tensors of a message, with some hundred bytes for each.
inline constexpr size_t kLongestObject = size_t{16} << 20;

// The frames of one connection. Not thread-safe. `Take`, `Filled` and `Fail`
// call the callbacks, in the order of the reads. A callback may add reads, and
// may call `Fail`.
class FrameReader {
 public:
  using Done = tensorpipe::transport::Connection::read_callback_fn;

  // `header_bytes` is the size of the length before each frame, which is
  // little-endian: 4 or 8 bytes.
  explicit FrameReader(size_t header_bytes = kFrameHeader)
      : header_bytes_(header_bytes) {}

  // Reads a frame of exactly `length` bytes to `into`.
  void Read(void* into, size_t length, Done done);
  // Reads a frame of at most `longest` bytes. `done` gets it in memory that is
  // valid until it returns.
  void ReadUpTo(size_t longest, Done done);
  bool is_waiting() const { return !reads_.empty(); }
  // Whether the header of the frame for the first read has been taken, and its
  // body has not come whole.
  bool is_in_body() const { return in_body_; }
  // How much of that body has not come.
  size_t body_left() const { return length_ - size_; }

  // Handles bytes that have arrived. With no bytes, it handles those that had
  // arrived before the reads were added. Returns false if the length of a frame
  // is wrong: the stream cannot be read any further.
  bool Take(std::string_view bytes);

  // The same for a caller that keeps the bytes for which there is no read yet:
  // removes from the front of `bytes` what the waiting reads take. Each byte is
  // read once, so `bytes` may lie in memory that others can write; a header may
  // not. A reader is used either by this function or by `Take`.
  bool TakeWanted(std::string_view& bytes) { return Advance(bytes); }

  // Where the next bytes belong, if they are many; empty otherwise. Bytes may
  // be put there instead of being given to `Take`; then call `Filled` with
  // their number.
  absl::Span<char> Room();
  bool Filled(size_t size);

  // Ends all reads.
  void Fail(const tensorpipe::Error& error);

 private:
  struct PendingRead {
    bool is_sized;  // of exactly `length` bytes, to `into`; else into `body_`
    char* into;
    size_t length;
    Done done;
  };

  // These functions remove from the front of `bytes` what they have handled.
  bool Advance(std::string_view& bytes);
  bool TakeHeader(std::string_view& bytes);
  void TakeBody(std::string_view& bytes);

  const size_t header_bytes_;
  std::deque<PendingRead> reads_;
  std::string kept_;  // arrived before there was a read for it
  size_t kept_at_ = 0;
  // The frame for the first read, once its length is known.
  bool in_body_ = false;
  size_t length_ = 0;
  size_t size_ = 0;  // bytes of it that have arrived
  std::string body_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_FRAME_READER_H_
