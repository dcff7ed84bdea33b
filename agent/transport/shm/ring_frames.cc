#include "agent/transport/shm/ring_frames.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace reprise::shm {

bool TakeFrames(RingReader& ring, FrameReader& reader) {
  size_t size = 0;
  while (reader.is_waiting() && size < kPieceBytes) {
    if (!reader.is_in_body()) {
      // The header is copied before it is checked, so that the peer cannot
      // change it in between.
      char header[sizeof(uint32_t)];
      if (ring.readable() < sizeof(header)) break;
      ring.Peek(header, sizeof(header));
      ring.Consume(sizeof(header));
      std::string_view bytes(header, sizeof(header));
      if (!reader.TakeWanted(bytes)) return false;
      continue;
    }
    // This takes no more than the body, as a header follows it.
    std::string_view bytes =
        ring.Contiguous().substr(0, std::min(reader.body_left(), kPieceBytes));
    if (bytes.empty()) break;
    const size_t taken = bytes.size();
    size += taken;
    if (!reader.TakeWanted(bytes)) return false;
    ring.Consume(taken);
  }
  return true;
}

}  // namespace reprise::shm
