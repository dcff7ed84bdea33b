// Any bytes as what comes first on a connection: must not crash, and what is
// let in is what TensorPipe's own reader, which minds no bounds, can read.

#include <array>  // nop needs it
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "agent/transport/first_frames.h"
#include "tensorpipe/channel/mpt/nop_types.h"
#include "tensorpipe/common/nop.h"
#include "tensorpipe/core/nop_types.h"

namespace {

using reprise::FramesVerdict;

void Require(bool condition) {
  if (!condition) std::abort();
}

uint64_t LengthOfFrame(std::string_view bytes) {
  uint64_t length = 0;
  for (size_t i = reprise::kFrameHeader; i-- > 0;) {
    length = length << 8 | static_cast<uint8_t>(bytes[i]);
  }
  return length;
}

// Takes the next frame; under ASan a byte beyond its body is found.
template <typename T>
void ReadAsTensorPipe(std::string_view& bytes) {
  const uint64_t length = LengthOfFrame(bytes);
  bytes.remove_prefix(reprise::kFrameHeader);
  Require(length <= bytes.size());
  const std::vector<uint8_t> body(bytes.begin(), bytes.begin() + length);
  bytes.remove_prefix(length);
  tensorpipe::NopReader reader(body.data(), body.size());
  tensorpipe::NopHolder<T> holder;
  Require(!holder.read(reader).has_error());
}

template <typename... Types>
void ReadGood(const FramesVerdict& verdict, std::string_view bytes) {
  if (verdict.kind == FramesVerdict::kMore) {
    Require(verdict.size > bytes.size());
    Require(verdict.size <= reprise::kFrameHeader + reprise::kLongestAnswer);
  }
  if (verdict.kind != FramesVerdict::kGood) return;
  bytes = bytes.substr(0, verdict.size);
  (ReadAsTensorPipe<Types>(bytes), ...);
  Require(bytes.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const FramesVerdict caller =
      reprise::CheckCaller(bytes, reprise::Callers::kPipes);
  if (caller.kind == FramesVerdict::kGood &&
      caller.size == reprise::kFrameHeader + LengthOfFrame(bytes)) {
    ReadGood<tensorpipe::Packet>(caller, bytes);
  } else {
    ReadGood<tensorpipe::Packet, tensorpipe::Brochure>(caller, bytes);
  }
  ReadGood<tensorpipe::channel::mpt::Packet>(
      reprise::CheckCaller(bytes, reprise::Callers::kLanes), bytes);
  ReadGood<tensorpipe::BrochureAnswer>(reprise::CheckBrochureAnswer(bytes),
                                       bytes);
  return 0;
}
