#include "agent/transport/uv/first_frames.h"

#include <endian.h>

#include <cstring>

#include "agent/transport/uv/decode.h"
#include "tensorpipe/channel/mpt/nop_types.h"
#include "tensorpipe/core/nop_types.h"

namespace reprise {
namespace {

// The name under which `RealTransports` has uv.
constexpr char kTransport[] = "uv";

// Goes through the frames at the beginning of `bytes`.
class Frames {
 public:
  explicit Frames(std::string_view bytes) : bytes_(bytes) {}

  // Takes the next frame, of `longest` bytes at most. If it returns false,
  // `verdict` says why.
  bool Next(size_t longest, std::string_view& body) {
    verdict_ = {FramesVerdict::kMore, end_ + kFrameHeader};
    if (bytes_.size() < verdict_.size) return false;
    const uint64_t length = FrameLength(bytes_.substr(end_));
    if (length == 0 || length > longest) return Wrong();
    verdict_.size += length;
    if (bytes_.size() < verdict_.size) return false;
    body = bytes_.substr(end_ + kFrameHeader, length);
    end_ = verdict_.size;
    return true;
  }

  FramesVerdict verdict() const { return verdict_; }
  FramesVerdict Decided(bool good) const {
    return {good ? FramesVerdict::kGood : FramesVerdict::kWrong, end_};
  }

 private:
  bool Wrong() {
    verdict_ = {FramesVerdict::kWrong, 0};
    return false;
  }

  const std::string_view bytes_;
  size_t end_ = 0;
  FramesVerdict verdict_;
};

// Whether the listener finds a transport to go on with. TensorPipe throws if it
// finds none.
bool OffersUv(const tensorpipe::Brochure& brochure) {
  const auto uv = brochure.transportDomainDescriptors.find(kTransport);
  return uv != brochure.transportDomainDescriptors.end() &&
         uv->second == kUvDomain;
}

FramesVerdict CheckLane(Frames frames) {
  using Hello = tensorpipe::channel::mpt::Packet;
  using tensorpipe::channel::mpt::ClientHello;
  std::string_view body;
  if (!frames.Next(kLongestHello, body)) return frames.verdict();
  Hello hello;
  return frames.Decided(Decode(body, hello) && hello.is<ClientHello>());
}

}  // namespace

FramesVerdict CheckCaller(std::string_view bytes, Callers callers) {
  Frames frames(bytes);
  if (callers == Callers::kLanes) return CheckLane(frames);
  std::string_view body;
  if (!frames.Next(kLongestHello, body)) return frames.verdict();
  tensorpipe::Packet hello;
  if (!Decode(body, hello)) return frames.Decided(false);
  if (hello.is<tensorpipe::RequestedConnection>()) return frames.Decided(true);
  if (!hello.is<tensorpipe::SpontaneousConnection>()) {
    return frames.Decided(false);
  }
  if (!frames.Next(kLongestBrochure, body)) return frames.verdict();
  tensorpipe::Brochure brochure;
  return frames.Decided(Decode(body, brochure) && OffersUv(brochure));
}

uint64_t FrameLength(std::string_view bytes) {
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  return le64toh(length);
}

}  // namespace reprise
