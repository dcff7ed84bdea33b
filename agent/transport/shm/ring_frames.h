// Frames out of a ring.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_RING_FRAMES_H_
#define REPRISE_AGENT_TRANSPORT_SHM_RING_FRAMES_H_

#include <cstddef>

#include "agent/transport/shm/ring.h"
#include "agent/transport/uv/frame_reader.h"

namespace reprise::shm {

// Bytes that are copied before the other end is told, so that both copy at the
// same time.
inline constexpr size_t kPieceBytes = size_t{64} << 10;

// Takes what has come and is wanted, up to about `kPieceBytes`. The reader must
// be one of headers of four bytes. False when a frame is not as long as it must
// be.
bool TakeFrames(RingReader& ring, FrameReader& reader);

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_RING_FRAMES_H_
