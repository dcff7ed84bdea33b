// An object such as TensorPipe's channels keep to themselves, with strings and
// a vector: as the channel cuda_ipc has it.

#ifndef REPRISE_TESTS_UNIT_TRANSPORT_PRIVATE_OBJECT_H_
#define REPRISE_TESTS_UNIT_TRANSPORT_PRIVATE_OBJECT_H_

#include <array>  // nop needs it
#include <cstdint>
#include <string>
#include <vector>

#include "nop/serializer.h"
#include "nop/structure.h"
#include "tensorpipe/common/nop.h"
#include "tensorpipe/common/optional.h"

namespace reprise::testing {

struct PrivateMemory {
  std::string process;
  std::string memory;
  std::vector<std::string> events;
  NOP_STRUCTURE(PrivateMemory, process, memory, events);
};

struct PrivateObject {
  int32_t device = 0;
  uint64_t slot = 0;
  tensorpipe::optional<PrivateMemory> memory;
  NOP_STRUCTURE(PrivateObject, device, slot, memory);
};

// Sixteen bytes whose last string claims 256 bytes that are not there, and
// after which another one would follow.
inline const std::string kOverrun(
    "\xb9\x03\x00\x00\xb9\x03\xbd\x00\xbd\x00\xba\x02\xbd\x81\x00\x01", 16);

// A whole one.
inline PrivateObject FilledPrivateObject() {
  PrivateObject object;
  object.device = 1;
  object.slot = 300;
  object.memory = PrivateMemory{
      "4026531836_77",
      std::string(64, 'm'),
      {std::string(64, 'a'), std::string(64, 'b'), "", std::string(64, 'd')}};
  return object;
}

// An object as TensorPipe encodes it.
template <typename T>
std::string Encoded(const T& object) {
  tensorpipe::NopHolder<T> holder;
  holder.getObject() = object;
  std::string bytes(holder.getSize(), '\0');
  tensorpipe::NopWriter writer(reinterpret_cast<uint8_t*>(bytes.data()),
                               bytes.size());
  static_cast<void>(holder.write(writer));
  return bytes;
}

}  // namespace reprise::testing

#endif  // REPRISE_TESTS_UNIT_TRANSPORT_PRIVATE_OBJECT_H_
