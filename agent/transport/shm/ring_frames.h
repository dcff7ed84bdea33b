// Frames in a ring.
//
// A frame is its length, 4 bytes, little-endian, and as many bytes of body.
// Between two of our own ends a length of 2^32 - 1 means that 8 bytes with the
// real length follow, so a frame may be longer than 4 GiB. TensorPipe's own
// transport writes the length of such a frame modulo 2^32.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_RING_FRAMES_H_
#define REPRISE_AGENT_TRANSPORT_SHM_RING_FRAMES_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "agent/transport/shm/ring.h"
#include "agent/transport/uv/frame_reader.h"

namespace reprise::shm {

// Bytes that are copied before the other end is told, so that both copy at the
// same time.
inline constexpr size_t kPieceBytes = size_t{64} << 10;

// What comes before a body of this length. Empty when the peer is not ours and
// cannot be told so great a length.
std::string FrameHeader(uint64_t length, bool is_peer_ours);

// Takes what has come and is wanted, up to about `kPieceBytes`. The reader must
// be made for headers of 8 bytes. False when a frame is not as long as it must
// be.
bool TakeFrames(RingReader& ring, FrameReader& reader, bool is_peer_ours);

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_RING_FRAMES_H_
