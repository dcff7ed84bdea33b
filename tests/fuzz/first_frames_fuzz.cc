// Any bytes may come on a connection. They must not crash the checks, and what
// these accept must be readable by TensorPipe's own reader, which does not
// check bounds.

#include <array>  // nop needs it
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "agent/transport/object_reader.h"
#include "agent/transport/peer_check.h"
#include "agent/transport/uv/first_frames.h"
#include "agent/transport/whole_object.h"
#include "tensorpipe/channel/mpt/nop_types.h"
#include "tensorpipe/common/nop.h"
#include "tensorpipe/core/nop_types.h"
#include "tests/unit/transport/private_object.h"

namespace {

using reprise::FramesVerdict;

void Require(bool condition) {
  if (!condition) std::abort();
}

// Under ASan a read beyond the body is found.
template <typename T>
void ReadAsTensorPipe(std::string_view body) {
  const std::vector<uint8_t> bytes(body.begin(), body.end());
  // What comes after is empty but not a null pointer, so that ASan reports a
  // read of it.
  const uint8_t* const end = bytes.data() + bytes.size();
  tensorpipe::NopReader reader(bytes.data(), bytes.size(), end, 0);
  tensorpipe::NopHolder<T> holder;
  Require(!holder.read(reader).has_error());
}

// Takes the next frame.
template <typename T>
void ReadFrame(std::string_view& bytes) {
  const uint64_t length = reprise::FrameLength(bytes);
  bytes.remove_prefix(reprise::kFrameHeader);
  Require(length <= bytes.size());
  ReadAsTensorPipe<T>(bytes.substr(0, length));
  bytes.remove_prefix(length);
}

template <typename... Types>
void ReadGood(const FramesVerdict& verdict, std::string_view bytes) {
  if (verdict.kind == FramesVerdict::kMore) {
    Require(verdict.size > bytes.size());
    Require(verdict.size <= 2 * reprise::kFrameHeader + reprise::kLongestHello +
                                reprise::kLongestBrochure);
  }
  if (verdict.kind != FramesVerdict::kGood) return;
  bytes = bytes.substr(0, verdict.size);
  (ReadFrame<Types>(bytes), ...);
  Require(bytes.empty());
}

template <typename T>
void ReadBody(std::string_view bytes) {
  const std::string transport = "uv";
  const reprise::PeerCheck check;
  for (const bool is_caller : {false, true}) {
    tensorpipe::NopHolder<T> holder;
    if (reprise::ReadObject(bytes, {transport, is_caller}, check, holder)
            .empty()) {
      ReadAsTensorPipe<T>(bytes);
    }
  }
}

// Under ASan a byte beyond the body is found, whatever the type is.
template <typename T>
void ReadWhole(std::string_view body) {
  const std::vector<char> bytes(body.begin(), body.end());
  tensorpipe::NopHolder<T> holder;
  reprise::ReadWholeObject({bytes.data(), bytes.size()}, holder);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const FramesVerdict caller =
      reprise::CheckCaller(bytes, reprise::Callers::kPipes);
  if (caller.kind == FramesVerdict::kGood &&
      caller.size == reprise::kFrameHeader + reprise::FrameLength(bytes)) {
    ReadGood<tensorpipe::Packet>(caller, bytes);
  } else {
    ReadGood<tensorpipe::Packet, tensorpipe::Brochure>(caller, bytes);
  }
  ReadGood<tensorpipe::channel::mpt::Packet>(
      reprise::CheckCaller(bytes, reprise::Callers::kLanes), bytes);

  const std::string_view body = bytes.size() < reprise::kFrameHeader
                                    ? std::string_view()
                                    : bytes.substr(reprise::kFrameHeader);
  ReadBody<tensorpipe::Packet>(body);
  ReadBody<tensorpipe::Brochure>(body);
  ReadBody<tensorpipe::BrochureAnswer>(body);
  ReadBody<tensorpipe::Descriptor>(body);
  ReadBody<tensorpipe::DescriptorReply>(body);
  ReadBody<tensorpipe::channel::mpt::Packet>(body);
  ReadWhole<reprise::testing::PrivateObject>(body);
  ReadWhole<tensorpipe::BrochureAnswer>(body);
  ReadWhole<tensorpipe::Descriptor>(body);
  return 0;
}
