#include "agent/transport/answer_reader.h"

#include <algorithm>
#include <cstring>

#include "agent/transport/real_uv.h"
#include "glog/logging.h"

namespace reprise {

bool AnswerReader::OnFirstWrite(const uv_buf_t buffers[], unsigned int count) {
  has_written_ = true;
  std::string bytes;
  for (unsigned int i = 0; i < count; ++i) {
    if (buffers[i].len > kLongestHello) return false;
    bytes.append(buffers[i].base, buffers[i].len);
  }
  return bytes.size() > kFrameHeader && BeginsPipe(bytes.substr(kFrameHeader));
}

void AnswerReader::Expect(uv_alloc_cb alloc, uv_read_cb read) {
  alloc_ = alloc;
  read_ = read;
}

uv_buf_t AnswerReader::NextBuffer() {
  frame_.resize(needed_);
  return uv_buf_init(frame_.data() + size_,
                     static_cast<unsigned int>(needed_ - size_));
}

bool AnswerReader::OnRead(ssize_t size) {
  if (size < 0) {
    error_ = size;
    return true;
  }
  size_ += size;
  if (size_ < needed_) return false;
  const FramesVerdict verdict = CheckBrochureAnswer(frame_);
  needed_ = verdict.size;
  if (verdict.kind == FramesVerdict::kWrong) {
    LOG_EVERY_N(WARNING, 100)
        << "what answers at the other end of a connection does not speak "
           "TensorPipe";
    error_ = UV_EPROTO;
  }
  return verdict.kind != FramesVerdict::kMore;
}

void AnswerReader::HandOn(uv_stream_t* stream) const {
  auto* const handle = reinterpret_cast<uv_handle_t*>(stream);
  uv_buf_t buffer = uv_buf_init(nullptr, 0);
  if (error_ != 0) return read_(stream, error_, &buffer);
  uv_read_stop(stream);
  RealUv().read_start(stream, alloc_, read_);
  size_t done = 0;
  while (done < size_ && uv_is_closing(handle) == 0) {
    alloc_(handle, size_ - done, &buffer);
    const size_t size = std::min<size_t>(buffer.len, size_ - done);
    if (size == 0) return read_(stream, UV_ENOBUFS, &buffer);
    std::memcpy(buffer.base, frame_.data() + done, size);
    done += size;
    read_(stream, static_cast<ssize_t>(size), &buffer);
  }
}

}  // namespace reprise
