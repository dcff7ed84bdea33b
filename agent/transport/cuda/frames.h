// Reads and writes of the frames of wire.h, within bounds.
//
// The connections' own reading of objects is not used: it knows TensorPipe's
// types only, or checks no bounds.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_FRAMES_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_FRAMES_H_

#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "agent/transport/cuda/error.h"
#include "agent/transport/uv/decode.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/common/nop.h"
#include "tensorpipe/transport/connection.h"

namespace reprise {

// No object of these channels is longer: the longest has five handles and a
// name.
inline constexpr size_t kLongestGpuObject = 4096;

std::string BytesOf(const tensorpipe::AbstractNopHolder& holder);

// Encodes an object as a string: a device descriptor.
template <typename T>
std::string EncodeObject(T object) {
  tensorpipe::NopHolder<T> holder;
  holder.getObject() = std::move(object);
  return BytesOf(holder);
}

template <typename T>
bool DecodeObject(std::string_view bytes, T& object) {
  return bytes.size() <= kLongestGpuObject && Decode(bytes, object);
}

// `done`: of a channel's callback wrapper, called with the error, if the frame
// is none of that type too, and the object.
template <typename T, typename Done>
void ReadObject(tensorpipe::transport::Connection& connection, Done done) {
  connection.read([done = std::move(done)](const tensorpipe::Error& error,
                                           const void* frame,
                                           size_t size) mutable {
    T object;
    if (error ||
        DecodeObject({static_cast<const char*>(frame), size}, object)) {
      done(error, object);
    } else {
      done(GpuErrorOf("the peer's descriptor is malformed"), object);
    }
  });
}

template <typename T>
void WriteObject(tensorpipe::transport::Connection& connection, T object,
                 tensorpipe::transport::Connection::write_callback_fn done) {
  auto holder = std::make_shared<tensorpipe::NopHolder<T>>();
  holder->getObject() = std::move(object);
  connection.write(*holder,
                   [holder, done = std::move(done)](
                       const tensorpipe::Error& error) { done(error); });
}

// Frames of a fixed size: structures of ours.
template <typename T, typename Done>
void ReadStruct(tensorpipe::transport::Connection& connection, Done done) {
  auto frame = std::make_shared<T>();
  connection.read(
      frame.get(), sizeof(T),
      [frame, done = std::move(done)](const tensorpipe::Error& error,
                                      const void*, size_t size) mutable {
        const bool is_short = !error && size != sizeof(T);
        done(is_short ? GpuErrorOf("the peer's frame is too short") : error,
             error || is_short ? T() : *frame);
      });
}

template <typename T>
void WriteStruct(tensorpipe::transport::Connection& connection, const T& object,
                 tensorpipe::transport::Connection::write_callback_fn done) {
  auto frame = std::make_shared<const T>(object);
  connection.write(frame.get(), sizeof(T),
                   [frame, done = std::move(done)](
                       const tensorpipe::Error& error) { done(error); });
}

// Empty frames. `done`: of a channel's callback wrapper.
template <typename Done>
void ReadEmpty(tensorpipe::transport::Connection& connection, Done done) {
  connection.read(
      nullptr, 0,
      [done = std::move(done)](const tensorpipe::Error& error, const void*,
                               size_t size) mutable {
        const bool is_wrong = !error && size != 0;
        done(is_wrong ? GpuErrorOf("the peer's frame is too long") : error);
      });
}

// Fields of characters that a zero byte ends, if they are not full.
template <size_t kSize>
std::string TextOf(const char (&field)[kSize]) {
  return {field, strnlen(field, kSize)};
}
template <size_t kSize>
void SetText(char (&field)[kSize], const std::string& text) {
  std::memcpy(field, text.data(), text.size() < kSize ? text.size() : kSize);
}

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_FRAMES_H_
