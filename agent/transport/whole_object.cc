#include "agent/transport/whole_object.h"

#include <array>  // nop needs it
#include <cstddef>
#include <cstdint>

#include "nop/serializer.h"
#include "nop/utility/pedantic_buffer_reader.h"

namespace reprise {
namespace {

using nop::EncodingByte;

// The objects of TensorPipe are nested 6 deep at most.
constexpr int kMaxDepth = 16;

class Walk {
 public:
  explicit Walk(std::string_view bytes) : rest_(bytes.data(), bytes.size()) {}

  bool is_over() const { return rest_.empty(); }

  // Each of these functions steps over something, and returns false if it is
  // malformed or not all there. `depth` is that of the objects stepped over.
  bool StepObject(int depth) {
    uint8_t byte = 0;
    if (depth > kMaxDepth || !rest_.Read(&byte)) return false;
    const auto prefix = static_cast<EncodingByte>(byte);
    // With the prefix and the number that may follow it; 0 if it is reserved.
    const size_t size = nop::BaseEncodingSize(prefix);
    if (size == 0 || !rest_.Skip(size - 1)) return false;
    switch (prefix) {
      case EncodingByte::Structure:
      case EncodingByte::Array:
        return StepCounted(1, depth + 1);
      case EncodingByte::Map:  // keys and values
        return StepCounted(2, depth + 1);
      case EncodingByte::Binary:
      case EncodingByte::String: {
        uint64_t count = 0;
        return ReadCount(count) && static_cast<bool>(rest_.Skip(count));
      }
      case EncodingByte::Variant:  // its index and its value
        return StepObjects(2, depth + 1);
      case EncodingByte::Error:  // the error's number
        return StepObjects(1, depth + 1);
      case EncodingByte::Table:
      case EncodingByte::Handle:
      case EncodingByte::Extension:
        return false;
      default:
        return true;
    }
  }

 private:
  // A count, and as many times `objects_each` objects.
  bool StepCounted(uint64_t objects_each, int depth) {
    uint64_t count = 0;
    if (!ReadCount(count)) return false;
    // Each object takes at least one byte.
    if (count > rest_.remaining() / objects_each) return false;
    return StepObjects(count * objects_each, depth);
  }
  bool StepObjects(uint64_t count, int depth) {
    for (uint64_t i = 0; i < count; ++i) {
      if (!StepObject(depth)) return false;
    }
    return true;
  }
  // As the readers of all types read it.
  bool ReadCount(uint64_t& count) {
    return static_cast<bool>(nop::Encoding<uint64_t>::Read(&count, &rest_));
  }

  nop::PedanticBufferReader rest_;
};

}  // namespace

bool IsWholeObject(std::string_view bytes) {
  Walk walk(bytes);
  return walk.StepObject(1) && walk.is_over();
}

bool ReadWholeObject(std::string_view bytes,
                     tensorpipe::AbstractNopHolder& object) {
  if (!IsWholeObject(bytes)) return false;
  tensorpipe::NopReader reader(reinterpret_cast<const uint8_t*>(bytes.data()),
                               bytes.size());
  return static_cast<bool>(object.read(reader));
}

}  // namespace reprise
