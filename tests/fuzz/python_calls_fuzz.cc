// Any bytes may be the payload of a call or a reply of PyTorch's Python. They
// must not crash the readers, and a call that was read must be the same after
// it was written again, unless Python could not have it.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "agent/device/tensor.h"
#include "agent/python/membership_calls.h"
#include "agent/python/python_call.h"
#include "agent/python/pytorch_only.h"

namespace {

using reprise::Message;
using reprise::PythonValue;

void Require(bool condition) {
  if (!condition) std::abort();
}

Message MessageOf(int type, std::string payload) {
  Message message;
  message.type = static_cast<reprise::MessageType>(type);
  message.payload = std::move(payload);
  return message;
}

// Two tensors, so that places in the list of tensors are good and bad ones.
const std::vector<reprise::Tensor>& Tensors() {
  static const auto& tensors = *new std::vector<reprise::Tensor>(
      2, *reprise::MakeTensor(reprise::DType::kFloat32, {1}));
  return tensors;
}

void RequireSame(const PythonValue& a, const PythonValue& b) {
  Require(a.kind() == b.kind() && a.AsBool() == b.AsBool() &&
          a.AsInt() == b.AsInt() && a.items().size() == b.items().size());
  if (a.AsString() != nullptr) Require(*a.AsString() == *b.AsString());
  if (a.AsBytes() != nullptr) Require(*a.AsBytes() == *b.AsBytes());
  for (size_t i = 0; i < a.items().size(); ++i) {
    RequireSame(a.items()[i], b.items()[i]);
  }
}

void ReadCall(const Message& request) {
  const auto received = reprise::ReceivedPythonCall::Parse(request);
  if (!received.ok()) return;
  const auto call = received->Read();
  if (!call.ok()) return;
  const auto again = reprise::EncodePythonCall(*call);
  if (!again.ok()) return;
  const auto received_again = reprise::ReceivedPythonCall::Parse(*again);
  Require(received_again.ok());
  const auto read_again = received_again->Read();
  // What one list held may be one too deep as an argument.
  if (!read_again.ok()) return;
  Require(read_again->module == call->module);
  Require(read_again->name == call->name);
  Require(read_again->args.size() == call->args.size());
  for (size_t i = 0; i < call->args.size(); ++i) {
    RequireSame(call->args[i], read_again->args[i]);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  Message python = MessageOf(0x102, std::string(1, '\0') + bytes);
  reprise::ParseMembershipCall(python).status().IgnoreError();
  python.tensors = Tensors();
  ReadCall(python);
  Message script = MessageOf(0x100, bytes);
  script.tensors = Tensors();
  ReadCall(script);
  Message reply = MessageOf(0x203, bytes);
  reply.tensors = Tensors();
  reprise::ReadMembershipReply(reply).IgnoreError();
  const auto value = reprise::DecodePythonReply(reply);
  if (value.ok()) {
    reprise::EncodePythonReply(value, /*is_script=*/false)
        .status()
        .IgnoreError();
  }
  for (const int type : {0x104, 0x105}) {
    const auto answer =
        reprise::AnswerPyTorchOnly(MessageOf(type, bytes), "ours");
    Require(answer.has_value());
  }
  return 0;
}
