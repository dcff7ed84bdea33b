// Checks the first frames on a connection of the transport uv.
//
// TensorPipe decodes them without checking bounds, and throws in its loop when
// they are malformed. Both would end the process. These functions decode the
// same types from the same bytes within bounds. They may be called on any
// thread.

#ifndef REPRISE_AGENT_TRANSPORT_UV_FIRST_FRAMES_H_
#define REPRISE_AGENT_TRANSPORT_UV_FIRST_FRAMES_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace reprise {

// The domain descriptor of every transport uv.
inline constexpr char kUvDomain[] = "uv:*";

// A frame is eight bytes of length, little-endian, and as many bytes of body.
inline constexpr size_t kFrameHeader = 8;

// The longest bodies that are accepted, in bytes. A hello of TensorPipe has
// some ten bytes and a name, a brochure some hundred bytes for each device.
inline constexpr size_t kLongestHello = size_t{16} << 10;
inline constexpr size_t kLongestBrochure = size_t{32} << 10;

struct FramesVerdict {
  enum Kind {
    kGood,   // TensorPipe can read the frames
    kMore,   // good so far; `size` bytes from the start are needed to go on
    kWrong,  // TensorPipe never sends this
  };
  Kind kind = kWrong;
  size_t size = 0;
};

// What the callers of a listener are.
enum class Callers {
  kPipes,  // TensorPipe's core, which sends a hello, and for a new pipe a
           // brochure that offers uv
  kLanes,  // clients of the channel mpt_uv, which send their hello
};

// Judges the first bytes that the caller of a listener sent. After kMore, call
// it again when `size` bytes have come, with all bytes from the start.
FramesVerdict CheckCaller(std::string_view bytes, Callers callers);

// The length of the body of the frame that begins at `bytes`, which must have
// at least the header.
uint64_t FrameLength(std::string_view bytes);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_FIRST_FRAMES_H_
