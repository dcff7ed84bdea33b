#include "agent/transport/uv/frame_reader.h"

#include <endian.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace reprise {
namespace {

// Below this size, a copy costs less than a system call.
constexpr size_t kManyBytes = size_t{16} << 10;

}  // namespace

void FrameReader::Read(void* into, size_t length, Done done) {
  reads_.push_back({true, static_cast<char*>(into), length, std::move(done)});
}

void FrameReader::ReadUpTo(size_t longest, Done done) {
  reads_.push_back({false, nullptr, longest, std::move(done)});
}

bool FrameReader::Take(std::string_view bytes) {
  if (kept_at_ == kept_.size()) {
    const bool makes_sense = Advance(bytes);
    kept_ = bytes;
    kept_at_ = 0;
    return makes_sense;
  }
  if (!bytes.empty()) {
    kept_.erase(0, kept_at_).append(bytes);
    kept_at_ = 0;
  }
  std::string_view rest = kept_;
  rest.remove_prefix(kept_at_);
  const bool makes_sense = Advance(rest);
  kept_at_ = kept_.size() - rest.size();
  if (rest.empty() && kept_.capacity() > kManyBytes) {
    kept_ = {};
    kept_at_ = 0;
  }
  return makes_sense;
}

bool FrameReader::Advance(std::string_view& bytes) {
  while (!reads_.empty()) {
    if (!in_body_) {
      if (bytes.size() < header_bytes_) break;
      if (!TakeHeader(bytes)) return false;
    }
    TakeBody(bytes);
    if (in_body_) break;
  }
  return true;
}

bool FrameReader::TakeHeader(std::string_view& bytes) {
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), header_bytes_);
  length = le64toh(length);
  const PendingRead& read = reads_.front();
  if (read.is_sized ? length != read.length : length > read.length) {
    return false;
  }
  bytes.remove_prefix(header_bytes_);
  in_body_ = true;
  length_ = length;
  size_ = 0;
  body_.clear();
  return true;
}

void FrameReader::TakeBody(std::string_view& bytes) {
  const size_t size = std::min(bytes.size(), length_ - size_);
  if (size > 0) {
    if (reads_.front().is_sized) {
      std::memcpy(reads_.front().into + size_, bytes.data(), size);
    } else {
      body_.append(bytes.data(), size);  // takes memory only for what has come
    }
    bytes.remove_prefix(size);
    size_ += size;
  }
  if (size_ < length_) return;
  in_body_ = false;
  PendingRead read = std::move(reads_.front());
  reads_.pop_front();
  read.done(tensorpipe::Error::kSuccess,
            read.is_sized ? read.into : body_.data(), length_);
  if (body_.capacity() > kManyBytes) body_ = {};
}

absl::Span<char> FrameReader::Room() {
  if (!in_body_ || !reads_.front().is_sized || length_ - size_ < kManyBytes) {
    return {};
  }
  return {reads_.front().into + size_, length_ - size_};
}

bool FrameReader::Filled(size_t size) {
  size_ += size;
  return Take({});
}

void FrameReader::Fail(const tensorpipe::Error& error) {
  while (!reads_.empty()) {
    PendingRead read = std::move(reads_.front());
    reads_.pop_front();
    read.done(error, nullptr, 0);
  }
}

}  // namespace reprise
