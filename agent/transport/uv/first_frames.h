// What comes first on a connection of the transport uv.
//
// TensorPipe decodes it without looking at bounds, and throws in its loop when
// it makes no sense: either ends the process. These functions decode the same
// types from the same bytes, within bounds.

#ifndef REPRISE_AGENT_TRANSPORT_UV_FIRST_FRAMES_H_
#define REPRISE_AGENT_TRANSPORT_UV_FIRST_FRAMES_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace reprise {

// What two transports uv agree on.
inline constexpr char kUvDomain[] = "uv:*";

// A frame: eight bytes of length, little-endian, and as many bytes of body.
inline constexpr size_t kFrameHeader = 8;

// Limits of the bodies. TensorPipe's own measure: a hello some ten bytes and a
// name, a brochure some hundreds for each device.
inline constexpr size_t kLongestHello = size_t{16} << 10;
inline constexpr size_t kLongestBrochure = size_t{32} << 10;

struct FramesVerdict {
  enum Kind {
    kGood,   // TensorPipe can read it
    kMore,   // so far; `size` bytes from the start tell more
    kWrong,  // no TensorPipe sends this
  };
  Kind kind = kWrong;
  size_t size = 0;
};

// Whom a listener listens for.
enum class Callers {
  kPipes,  // the core: a hello, and for a new pipe a brochure that offers uv
  kLanes,  // the channel mpt_uv: its clients' hello
};

// Of the bytes that a listener's caller sent first, at least all that came up
// to the size of the last verdict.
FramesVerdict CheckCaller(std::string_view bytes, Callers callers);

// How long the body is of the frame that begins there; of the header at least.
uint64_t FrameLength(std::string_view bytes);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_FIRST_FRAMES_H_
