#include "agent/python/membership_calls.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "agent/python/pickle_writer.h"
#include "agent/python/stock_names.h"
#include "agent/wire/pickle_tree.h"

namespace reprise {
namespace {

using Kind = PickleTree::Kind;
using Ref = PickleTree::Ref;
using GlobalName = PickleTree::GlobalName;
using stock_names::kPythonUdf;
using stock_names::kRemoteException;

constexpr GlobalName kGetDeviceInfos{"torch.distributed.rpc.backend_registry",
                                     "_get_device_infos"};
constexpr GlobalName kUpdateMembership{"torch.distributed.rpc._utils",
                                       "_update_group_membership"};
constexpr GlobalName kWorkerInfo{"torch._C._distributed_rpc", "WorkerInfo"};
constexpr GlobalName kDevice{"torch", "device"};

// A call names its function first, so that all others are passed on without
// being read. This call has some 250 bytes, and more for each device.
constexpr size_t kNameWithin = 512;
constexpr PickleLimits kLimits{.max_bytes = size_t{1} << 20,
                               .max_nodes = size_t{1} << 18,
                               .max_protocol = 5};

// What is kept of an error's text.
constexpr size_t kMaxErrorText = 1000;

// The byte before the pickle: the function does not answer by a future.
constexpr char kNotAsync = '\0';

bool MayBeMembershipCall(const Message& request) {
  if (request.type != MessageType::kPythonCall || !request.tensors.empty() ||
      request.payload.size() > kLimits.max_bytes) {
    return false;
  }
  const std::string_view start =
      std::string_view(request.payload).substr(0, kNameWithin);
  return start.find(kGetDeviceInfos.name) != start.npos ||
         start.find(kUpdateMembership.name) != start.npos;
}

absl::Status BadArguments() {
  return absl::InvalidArgumentError(
      "_update_group_membership takes a WorkerInfo, a list of devices, a "
      "dictionary of device maps, and whether the worker joins");
}

// `WorkerInfo.__setstate__((name, id))`
std::optional<WorkerInfo> ReadWorker(const PickleTree& tree, Ref ref) {
  if (tree.kind(ref) != Kind::kBuild) return std::nullopt;
  const Ref state = tree.children(ref)[1];
  const absl::Span<const Ref> parts = tree.children(state);
  if (tree.kind(state) != Kind::kTuple || parts.size() != 2) {
    return std::nullopt;
  }
  const std::optional<std::string_view> name = tree.AsString(parts[0]);
  const std::optional<int64_t> id = tree.AsInt(parts[1]);
  if (!name || !IsWorkerName(*name) || !id || *id < 0 ||
      *id > std::numeric_limits<WorkerId>::max()) {
    return std::nullopt;
  }
  return WorkerInfo{std::string(*name), static_cast<WorkerId>(*id)};
}

void Write(PickleWriter& pickle, const GlobalName& global) {
  pickle.Global(global.module, global.name);
}

void Write(PickleWriter& pickle, const Device& device) {
  Write(pickle, kDevice);
  pickle.Mark();
  pickle.Text(device.type);
  // PyTorch's "cpu" and "cpu:0" are two devices, and it means the first.
  if (device.type != "cpu" || device.index != 0) pickle.Int(device.index);
  pickle.Tuple();
  pickle.Reduce();
}

void Write(PickleWriter& pickle, const std::vector<Device>& devices) {
  pickle.EmptyList();
  pickle.Mark();
  for (const Device& device : devices) Write(pickle, device);
  pickle.Appends();
}

void Write(PickleWriter& pickle, const std::map<std::string, DeviceMap>& maps) {
  pickle.EmptyDict();
  pickle.Mark();
  for (const auto& [name, map] : maps) {
    pickle.Text(name);
    pickle.EmptyDict();
    pickle.Mark();
    for (const auto& [from, to] : map) {
      Write(pickle, from);
      Write(pickle, to);
    }
    pickle.SetItems();
  }
  pickle.SetItems();
}

int CountOf(const DeviceInfo& info) {
  if (info.count >= 0) return info.count;
  int count = 0;
  const auto add = [&count](const Device& device) {
    if (device.type != "cpu") count = std::max(count, device.index + 1);
  };
  for (const Device& device : info.devices) add(device);
  for (const auto& [name, map] : info.maps) {
    for (const auto& [ours, theirs] : map) add(ours);
  }
  return count;
}

Message MakeMessage(MessageType type, PickleWriter pickle) {
  Message message;
  message.type = type;
  message.payload = std::move(pickle).Finish();
  return message;
}

}  // namespace

absl::StatusOr<std::optional<MembershipCall>> ParseMembershipCall(
    const Message& request) {
  const std::optional<MembershipCall> other;
  if (!MayBeMembershipCall(request)) return other;
  const absl::StatusOr<PickleTree> tree =
      PickleTree::Parse(std::string_view(request.payload).substr(1), kLimits);
  // Whoever serves other calls says what is wrong with this one.
  if (!tree.ok() || tree->kind(tree->root()) != Kind::kNewObject) return other;
  const absl::Span<const Ref> made = tree->children(tree->root());
  if (tree->AsGlobalName(made[0]) != kPythonUdf ||
      tree->kind(made[1]) != Kind::kTuple ||
      tree->children(made[1]).size() != 3) {
    return other;
  }
  const absl::Span<const Ref> udf = tree->children(made[1]);
  const std::optional<GlobalName> function = tree->AsGlobalName(udf[0]);
  if (function == kGetDeviceInfos) {
    return MembershipCall{};
  }
  if (function != kUpdateMembership) return other;
  const absl::Span<const Ref> arguments = tree->children(udf[1]);
  if (tree->kind(udf[1]) != Kind::kTuple || arguments.size() != 4) {
    return BadArguments();
  }
  std::optional<WorkerInfo> worker = ReadWorker(*tree, arguments[0]);
  const std::optional<bool> is_join = tree->AsBool(arguments[3]);
  if (!worker || !is_join) return BadArguments();
  return MembershipCall{.kind = *is_join ? MembershipCall::Kind::kJoin
                                         : MembershipCall::Kind::kLeave,
                        .worker = *std::move(worker)};
}

Message MembershipReply() {
  PickleWriter pickle;
  pickle.None();
  return MakeMessage(MessageType::kPythonRet, std::move(pickle));
}

Message DeviceInfosReply(const DeviceInfo& info) {
  PickleWriter pickle;
  pickle.Mark();
  pickle.Int(CountOf(info));
  Write(pickle, info.maps);
  Write(pickle, info.devices);
  pickle.Tuple();
  return MakeMessage(MessageType::kPythonRet, std::move(pickle));
}

absl::Status ReadMembershipReply(const Message& reply) {
  const absl::StatusOr<PickleTree> tree =
      PickleTree::Parse(reply.payload, kLimits);
  if (!tree.ok()) return tree.status();
  if (tree->kind(tree->root()) == Kind::kNone) return absl::OkStatus();
  const absl::Span<const Ref> made = tree->children(tree->root());
  if (tree->kind(tree->root()) == Kind::kNewObject &&
      tree->AsGlobalName(made[0]) == kRemoteException) {
    const absl::Span<const Ref> parts = tree->children(made[1]);
    if (!parts.empty()) {
      const std::string_view text =
          tree->AsString(parts[0]).value_or("").substr(0, kMaxErrorText);
      return absl::UnknownError(
          absl::CHexEscape(absl::string_view(text.data(), text.size())));
    }
  }
  return absl::InvalidArgumentError("it answers with a value, and not None");
}

Message MakeMembershipCall(const WorkerInfo& worker,
                           const std::vector<Device>& devices,
                           const std::map<std::string, DeviceMap>& reverse_maps,
                           bool is_join) {
  PickleWriter pickle(std::string(1, kNotAsync));
  Write(pickle, kPythonUdf);
  pickle.Mark();
  Write(pickle, kUpdateMembership);
  pickle.Mark();
  Write(pickle, kWorkerInfo);
  pickle.EmptyTuple();
  pickle.NewObject();
  pickle.Mark();
  pickle.Text(worker.name);
  pickle.Int(worker.id);
  pickle.Tuple();
  pickle.Build();
  Write(pickle, devices);
  Write(pickle, reverse_maps);
  pickle.Bool(is_join);
  pickle.Tuple();
  pickle.EmptyDict();
  pickle.Tuple();
  pickle.NewObject();
  return MakeMessage(MessageType::kPythonCall, std::move(pickle));
}

}  // namespace reprise
