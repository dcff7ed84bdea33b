#include "agent/transport/object_reader.h"

#include <array>  // nop needs it
#include <exception>

#include "agent/transport/uv/decode.h"
#include "agent/transport/uv/first_frames.h"
#include "agent/transport/whole_object.h"
#include "tensorpipe/channel/mpt/nop_types.h"
#include "tensorpipe/core/nop_types.h"

namespace reprise {
namespace {

using tensorpipe::AbstractNopHolder;
using tensorpipe::Brochure;
using tensorpipe::BrochureAnswer;
using tensorpipe::Descriptor;
using tensorpipe::DescriptorReply;
using tensorpipe::NopHolder;
using LaneHello = tensorpipe::channel::mpt::Packet;
using tensorpipe::channel::mpt::ClientHello;
using tensorpipe::channel::mpt::ServerHello;

// Some fifty bytes for each pair of devices. Small, because a map of many keys
// that somebody has picked takes for ever.
constexpr size_t kLongestAnswer = size_t{64} << 10;

// Of the types that TensorPipe keeps to itself, the longest describes pairs of
// network adapters, with some fifty bytes for each.
constexpr size_t kLongestUnknown = size_t{64} << 10;

constexpr char kNonsense[] = "sent what makes no sense";
constexpr char kNothingInCommon[] =
    "has no transport, or no channel for memory, in common with us, or did not "
    "choose as we do";

template <typename T>
NopHolder<T>* As(AbstractNopHolder& object) {
  return dynamic_cast<NopHolder<T>*>(&object);
}

template <typename T>
std::string Read(std::string_view frame, NopHolder<T>& holder) {
  return Decode(frame, holder.getObject()) ? "" : kNonsense;
}

std::string Judge(bool is_accepted) {
  return is_accepted ? "" : kNothingInCommon;
}

bool IsLaneHello(const LaneHello& hello, bool is_caller,
                 const PeerCheck& check) {
  if (!is_caller) return hello.is<ClientHello>();
  return hello.is<ServerHello>() && check.Accepts(*hello.get<ServerHello>());
}

std::string ReadUnguarded(std::string_view frame, const Origin& origin,
                          const PeerCheck& check, AbstractNopHolder& object) {
  if (auto* const descriptor = As<Descriptor>(object)) {
    return Read(frame, *descriptor);
  }
  if (auto* const reply = As<DescriptorReply>(object)) {
    return Read(frame, *reply);
  }
  if (auto* const hello = As<tensorpipe::Packet>(object)) {
    return Read(frame, *hello);
  }
  if (auto* const brochure = As<Brochure>(object)) {
    std::string wrong = Read(frame, *brochure);
    return wrong.empty() ? Judge(check.Accepts(brochure->getObject())) : wrong;
  }
  if (auto* const answer = As<BrochureAnswer>(object)) {
    if (frame.size() > kLongestAnswer) return kNonsense;
    std::string wrong = Read(frame, *answer);
    return wrong.empty()
               ? Judge(check.Accepts(answer->getObject(), origin.transport))
               : wrong;
  }
  if (auto* const hello = As<LaneHello>(object)) {
    return Decode(frame, hello->getObject()) &&
                   IsLaneHello(hello->getObject(), origin.is_caller, check)
               ? ""
               : kNonsense;
  }
  // Of a type that TensorPipe keeps to itself.
  if (frame.size() > kLongestUnknown) return kNonsense;
  return ReadWholeObject(frame, object) ? "" : kNonsense;
}

}  // namespace

std::string ReadObject(std::string_view frame, const Origin& origin,
                       const PeerCheck& check, AbstractNopHolder& object) {
  try {
    return ReadUnguarded(frame, origin, check, object);
  } catch (const std::exception&) {  // bad_alloc
    return "sent more than there is memory for";
  }
}

}  // namespace reprise
