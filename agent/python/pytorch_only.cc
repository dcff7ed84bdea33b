#include "agent/python/pytorch_only.h"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "agent/python/pickle_writer.h"
#include "agent/python/stock_names.h"
#include "agent/wire/pickle_tree.h"

namespace reprise {
namespace {

using Ref = PickleTree::Ref;
using stock_names::kJitProtocol;

// PyTorch's types of messages (torch/csrc/distributed/rpc/message.h).
enum PyTorchType : int32_t {
  kScriptRemoteCall = 0x104,
  kPythonRemoteCall = 0x105,
  kRemoteRet = 0x206,
  kScriptFetchCall = 0x107,
  kPythonFetchCall = 0x108,
  kRRefUserDelete = 0x10b,
  kRRefForkRequest = 0x10c,
  kRRefChildAccept = 0x10d,
  kRRefAck = 0x20e,
  kForwardAutograd = 0x10f,
  kBackwardAutograd = 0x111,
  kCleanupAutograd = 0x113,
  kCleanupAutogradDone = 0x214,
  kRunWithProfiling = 0x115,
  kRRefBackward = 0x117,
};

Message Reply(PyTorchType type, std::string payload = "") {
  Message reply;
  reply.type = static_cast<MessageType>(type);
  reply.payload = std::move(payload);
  return reply;
}

absl::Status No(std::string_view part, const std::string& self) {
  return absl::UnimplementedError(
      absl::StrCat("worker ", self, " is no PyTorch process: it has no ",
                   absl::string_view(part.data(), part.size()),
                   ". Call it with rpc_sync or rpc_async"));
}

// The id of an RRef or of a fork of it: (created on, number).
struct GlobalId {
  int64_t created_on = 0;
  int64_t number = 0;
};

std::optional<GlobalId> ReadId(const PickleTree& tree, Ref ref) {
  const absl::Span<const Ref> parts = tree.children(ref);
  if (tree.kind(ref) != PickleTree::Kind::kTuple || parts.size() != 2) {
    return std::nullopt;
  }
  const std::optional<int64_t> created_on = tree.AsInt(parts[0]);
  const std::optional<int64_t> number = tree.AsInt(parts[1]);
  if (!created_on || !number) return std::nullopt;
  return GlobalId{*created_on, *number};
}

void Write(PickleWriter& pickle, const GlobalId& id) {
  pickle.Mark();
  pickle.Int(id.created_on);
  pickle.Int(id.number);
  pickle.Tuple();
}

// The call is a tuple that ends with the ids of the RRef and of the caller's
// fork of it, and `num_after` values. The answer repeats the ids.
absl::StatusOr<Message> Confirm(const Message& request, size_t num_after) {
  const absl::StatusOr<PickleTree> tree = PickleTree::Parse(request.payload);
  if (!tree.ok()) return tree.status();
  const absl::Span<const Ref> parts = tree->children(tree->root());
  if (tree->kind(tree->root()) != PickleTree::Kind::kTuple ||
      parts.size() < num_after + 2) {
    return absl::InvalidArgumentError("a remote call without its ids");
  }
  const size_t at = parts.size() - num_after - 2;
  const std::optional<GlobalId> rref = ReadId(*tree, parts[at]);
  const std::optional<GlobalId> fork = ReadId(*tree, parts[at + 1]);
  if (!rref || !fork) {
    return absl::InvalidArgumentError("a remote call without its ids");
  }
  PickleWriter pickle("", kJitProtocol);
  pickle.Mark();
  Write(pickle, *rref);
  Write(pickle, *fork);
  pickle.Tuple();
  return Reply(kRemoteRet, std::move(pickle).Finish());
}

}  // namespace

std::optional<absl::StatusOr<Message>> AnswerPyTorchOnly(
    const Message& request, const std::string& self) {
  switch (static_cast<PyTorchType>(request.type)) {
    case kScriptRemoteCall:
      return Confirm(request, 0);
    case kPythonRemoteCall:
      return Confirm(request, 1);  // whether the function is asynchronous
    case kScriptFetchCall:
    case kPythonFetchCall:
      return No("RRefs, and this one no value", self);
    case kRRefUserDelete:
    case kRRefForkRequest:
    case kRRefChildAccept:
      return Reply(kRRefAck);
    case kForwardAutograd:
    case kBackwardAutograd:
    case kRRefBackward:
      return No("distributed autograd", self);
    case kCleanupAutograd:
      return Reply(kCleanupAutogradDone);
    case kRunWithProfiling:
      return No("profiler of remote calls", self);
    default:
      return std::nullopt;
  }
}

}  // namespace reprise
