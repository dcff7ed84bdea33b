// Decodes an object of TensorPipe's within bounds, which its own reader does
// not mind.

#ifndef REPRISE_AGENT_TRANSPORT_UV_DECODE_H_
#define REPRISE_AGENT_TRANSPORT_UV_DECODE_H_

#include <array>  // nop needs it
#include <cstdint>
#include <string_view>

#include "nop/serializer.h"
#include "nop/utility/pedantic_buffer_reader.h"

namespace reprise {

// nop's own, but for nothing at all, which may be read to a null pointer.
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

// All of `body`, and nothing but. When false, `object` may be half of it.
template <typename T>
bool Decode(std::string_view body, T& object) {
  BoundedReader reader(body.data(), body.size());
  return nop::Encoding<T>::Read(&object, &reader) && reader.empty();
}

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_DECODE_H_
