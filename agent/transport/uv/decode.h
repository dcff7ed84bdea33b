// Decodes an object of TensorPipe's within bounds, which TensorPipe's own
// reader does not check.

#ifndef REPRISE_AGENT_TRANSPORT_UV_DECODE_H_
#define REPRISE_AGENT_TRANSPORT_UV_DECODE_H_

#include <array>  // nop needs it
#include <cstdint>
#include <string_view>

#include "nop/serializer.h"
#include "nop/utility/pedantic_buffer_reader.h"

namespace reprise {

// A reader of the library nop that also accepts a read of no bytes to a null
// pointer.
class BoundedReader : public nop::PedanticBufferReader {
 public:
  using PedanticBufferReader::PedanticBufferReader;

  template <typename T>
  nop::Status<void> Read(T* begin, T* end) {
    if (begin == end) return {};
    return PedanticBufferReader::Read(begin, end);
  }
  nop::Status<void> Read(uint8_t* byte) { return Read(byte, byte + 1); }
};

// Returns whether `body` is exactly one object. If it is not, `object` may have
// been changed in part.
template <typename T>
bool Decode(std::string_view body, T& object) {
  BoundedReader reader(body.data(), body.size());
  return nop::Encoding<T>::Read(&object, &reader) && reader.empty();
}

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_DECODE_H_
