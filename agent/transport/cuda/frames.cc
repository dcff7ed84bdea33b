#include "agent/transport/cuda/frames.h"

namespace reprise {

std::string BytesOf(const tensorpipe::AbstractNopHolder& holder) {
  std::string bytes(holder.getSize(), '\0');
  tensorpipe::NopWriter writer(reinterpret_cast<uint8_t*>(bytes.data()),
                               bytes.size());
  // It has the room that it asked for.
  static_cast<void>(holder.write(writer));
  return bytes;
}

}  // namespace reprise
