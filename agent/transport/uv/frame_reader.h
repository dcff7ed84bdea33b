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
#include "tensorpipe/common/error.h"
#include "tensorpipe/transport/connection.h"

namespace reprise {

// Of one connection. Not thread-safe. Callbacks are called by `Take`, `Filled`
// and `Fail`, in the order of the reads; they may add reads, and `Fail`.
class FrameReader {
 public:
  using Done = tensorpipe::transport::Connection::read_callback_fn;

  // Wants a frame of exactly `length` bytes, put at `into`.
  void Read(void* into, size_t length, Done done);
  // Wants a frame of at most `longest` bytes; `done` gets it in memory that is
  // there until it returns.
  void ReadUpTo(size_t longest, Done done);
  bool is_waiting() const { return !reads_.empty(); }

  // Takes what has arrived; with nothing, what had arrived before the reads
  // came. False when a frame is not as long as it must be: the stream makes no
  // sense from there on.
  bool Take(std::string_view bytes);

  // Where the next bytes belong, if they are many; empty otherwise. What is put
  // there instead of given to `Take` is to be told by `Filled`.
  absl::Span<char> Room();
  bool Filled(size_t size);

  // Ends all reads.
  void Fail(const tensorpipe::Error& error);

 private:
  struct PendingRead {
    char* into;  // null: into `body_`
    size_t length;
    Done done;
  };

  // These take from the front of `bytes`.
  bool Advance(std::string_view& bytes);
  bool TakeHeader(std::string_view& bytes);
  void TakeBody(std::string_view& bytes);

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
