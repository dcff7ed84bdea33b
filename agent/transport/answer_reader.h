// Looks at what answers a new pipe, before TensorPipe does: it may be anything,
// if the address that was connected to is no longer an agent's.
//
// Of a connection that was made to begin a pipe, the first frame is gathered
// and, if TensorPipe could have sent it, handed on as libuv would have. If not,
// the connection fails with EPROTO, as connections do.

#ifndef REPRISE_AGENT_TRANSPORT_ANSWER_READER_H_
#define REPRISE_AGENT_TRANSPORT_ANSWER_READER_H_

#include <cstddef>
#include <string>

#include "agent/transport/first_frames.h"
#include "uv.h"

namespace reprise {

// Of one stream that TensorPipe connects; used on the thread of its loop.
class AnswerReader {
 public:
  // What is written first says what will be answered. False when it is not the
  // beginning of a pipe: there is nothing to look at then.
  bool OnFirstWrite(const uv_buf_t buffers[], unsigned int count);
  bool has_written() const { return has_written_; }

  // TensorPipe's callbacks, which are handed the frame.
  void Expect(uv_alloc_cb alloc, uv_read_cb read);

  // Where libuv is to read to.
  uv_buf_t NextBuffer();
  // False when more is needed. Otherwise `this` has no more to do but
  // `HandOn`, and is to be forgotten before.
  bool OnRead(ssize_t size);
  void HandOn(uv_stream_t* stream) const;

 private:
  bool has_written_ = false;
  uv_alloc_cb alloc_ = nullptr;
  uv_read_cb read_ = nullptr;
  std::string frame_;
  size_t size_ = 0;
  size_t needed_ = kFrameHeader;
  ssize_t error_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_ANSWER_READER_H_
