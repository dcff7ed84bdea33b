// Cuts the bytes that arrive on a connection into frames, for reads that wait.
//
// What comes is a stranger's word: a frame that is not as long as its read says
// takes no memory and touches none.

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

// What connections take in a read of any length: objects of TensorPipe's, the
// longest of which tell of the tensors of a message, some hundred bytes each.
inline constexpr size_t kLongestObject = size_t{16} << 20;

// Of one connection. Not thread-safe. Callbacks are called by `Take`, `Filled`
// and `Fail`, in the order of the reads; they may add reads, and `Fail`.
class FrameReader {
 public:
  using Done = tensorpipe::transport::Connection::read_callback_fn;

  // `header_bytes` is how long the length before each frame is: 4 or 8 bytes,
  // little-endian.
  explicit FrameReader(size_t header_bytes = kFrameHeader)
      : header_bytes_(header_bytes) {}

  // Wants a frame of exactly `length` bytes, put at `into`.
  void Read(void* into, size_t length, Done done);
  // Wants a frame of at most `longest` bytes; `done` gets it in memory that is
  // there until it returns.
  void ReadUpTo(size_t longest, Done done);
  bool is_waiting() const { return !reads_.empty(); }
  // Whether the header of the frame for the first read has been taken, and its
  // body has not come whole.
  bool is_in_body() const { return in_body_; }
  // How much of that body has not come.
  size_t body_left() const { return length_ - size_; }

  // Takes what has arrived; with nothing, what had arrived before the reads
  // came. False when a frame is not as long as it must be: the stream makes no
  // sense from there on.
  bool Take(std::string_view bytes);

  // The same for a caller that keeps what nobody wants yet: takes from the
  // front of `bytes` as much as the reads that wait want. Each byte is read
  // once, so `bytes` may lie in memory that somebody else can write; a header
  // may not. Not to be mixed with `Take`.
  bool TakeWanted(std::string_view& bytes) { return Advance(bytes); }

  // Where the next bytes belong, if they are many; empty otherwise. What is put
  // there instead of given to `Take` is to be told by `Filled`.
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

  // These take from the front of `bytes`.
  bool Advance(std::string_view& bytes);
  bool TakeHeader(std::string_view& bytes);
  void TakeBody(std::string_view& bytes);

  const size_t header_bytes_;
  std::deque<PendingRead> reads_;
  std::string kept_;  // arrived before a read wanted it
  size_t kept_at_ = 0;
  // Of the frame for the first read, once its length is known.
  bool in_body_ = false;
  size_t length_ = 0;
  size_t size_ = 0;  // that have arrived
  std::string body_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_FRAME_READER_H_
