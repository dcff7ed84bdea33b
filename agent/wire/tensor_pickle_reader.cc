// The reading half of tensor_pickle.h.

#include <algorithm>
#include <array>
#include <new>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/wire/tensor_pickle.h"

namespace reprise {
namespace {

using Kind = PickleTree::Kind;
using Ref = PickleTree::Ref;

constexpr std::array<std::pair<std::string_view, DType>, kNumDTypes>
    kStorageTypes = {{
        {"Byte", DType::kUInt8},
        {"Char", DType::kInt8},
        {"Short", DType::kInt16},
        {"Int", DType::kInt32},
        {"Long", DType::kInt64},
        {"Half", DType::kFloat16},
        {"Float", DType::kFloat32},
        {"Double", DType::kFloat64},
        {"ComplexFloat", DType::kComplex64},
        {"ComplexDouble", DType::kComplex128},
        {"Bool", DType::kBool},
        {"BFloat16", DType::kBFloat16},
        {"ComplexHalf", DType::kComplex32},
        {"UInt16", DType::kUInt16},
        {"UInt32", DType::kUInt32},
        {"UInt64", DType::kUInt64},
        {"Float8_e5m2", DType::kFloat8E5M2},
        {"Float8_e4m3fn", DType::kFloat8E4M3FN},
        {"Float8_e5m2fnuz", DType::kFloat8E5M2FNUZ},
        {"Float8_e4m3fnuz", DType::kFloat8E4M3FNUZ},
        {"Float8_e8m0fnu", DType::kFloat8E8M0FNU},
    }};

// Makes a peer's bytes printable and short, for an error text.
std::string Quote(std::string_view text) {
  const std::string_view start = text.substr(0, 80);
  return absl::StrCat(
      "'", absl::CHexEscape(absl::string_view(start.data(), start.size())),
      start.size() < text.size() ? "...'" : "'");
}

absl::Status Bad(std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("bad tensor pickle: ", std::string(what)));
}

absl::Status Unsupported(std::string_view what) {
  return absl::UnimplementedError(
      absl::StrCat(std::string(what), " are not supported"));
}

// "cpu" or "cuda:1".
std::optional<Device> ParseDevice(std::string_view text) {
  Device device;
  const size_t colon = text.find(':');
  device.type = text.substr(0, colon);
  if (device.type.empty() || device.type.size() > 32 ||
      !std::all_of(device.type.begin(), device.type.end(),
                   [](char c) { return c >= 'a' && c <= 'z'; })) {
    return std::nullopt;
  }
  if (colon == text.npos) return device;
  const std::string_view index = text.substr(colon + 1);
  if (index.size() > 5 ||
      !absl::SimpleAtoi(absl::string_view(index.data(), index.size()),
                        &device.index) ||
      device.index < 0) {
    return std::nullopt;
  }
  return device;
}

// "torch\nFloatStorage"
std::optional<DType> ParseStorageType(std::string_view global) {
  constexpr std::string_view kModule = "torch\n";
  constexpr std::string_view kSuffix = "Storage";
  if (!global.starts_with(kModule) || !global.ends_with(kSuffix)) {
    return std::nullopt;
  }
  global.remove_prefix(kModule.size());
  global.remove_suffix(std::min(kSuffix.size(), global.size()));
  for (const auto& [name, dtype] : kStorageTypes) {
    if (name == global) return dtype;
  }
  return std::nullopt;
}

class Reader {
 public:
  Reader(const PickleTree& tree, const TensorPickleLimits& limits)
      : tree_(tree), limits_(limits) {}

  absl::StatusOr<std::vector<TensorDescription>> ReadList() {
    const auto arguments =
        Call(tree_.root(), "torch.jit._pickle\nbuild_tensorlist");
    if (!arguments || arguments->size() != 1 ||
        tree_.kind((*arguments)[0]) != Kind::kList) {
      return Bad("not a list of tensors");
    }
    const absl::Span<const Ref> items = tree_.children((*arguments)[0]);
    if (items.size() > limits_.max_tensors) {
      return absl::ResourceExhaustedError(
          absl::StrCat("a message of ", items.size(), " tensors; at most ",
                       limits_.max_tensors, " are accepted"));
    }
    std::vector<TensorDescription> tensors;
    tensors.reserve(items.size());
    for (Ref item : items) {
      absl::Status status = ReadTensor(item, &tensors.emplace_back());
      if (!status.ok()) return status;
    }
    return tensors;
  }

 private:
  // Returns the arguments if `ref` is a call of `callee`.
  std::optional<absl::Span<const Ref>> Call(Ref ref,
                                            std::string_view callee) const {
    if (tree_.kind(ref) != Kind::kReduce) return std::nullopt;
    const absl::Span<const Ref> parts = tree_.children(ref);
    if (tree_.AsGlobal(parts[0]) != callee ||
        tree_.kind(parts[1]) != Kind::kTuple) {
      return std::nullopt;
    }
    return tree_.children(parts[1]);
  }

  absl::Status ReadTensor(Ref ref, TensorDescription* tensor) {
    const auto arguments = Call(ref, "torch._utils\n_rebuild_tensor_v2");
    if (!arguments) return WhatElse(ref);
    if (arguments->size() != 6 && arguments->size() != 7) {
      return Bad("a tensor takes 6 or 7 arguments");
    }
    if (auto status = ReadStorage((*arguments)[0], tensor); !status.ok()) {
      return status;
    }
    const auto offset = tree_.AsInt((*arguments)[1]);
    const auto requires_grad = tree_.AsBool((*arguments)[4]);
    const auto hooks = Call((*arguments)[5], "collections\nOrderedDict");
    if (!offset || !ReadInts((*arguments)[2], &tensor->sizes) ||
        !ReadInts((*arguments)[3], &tensor->strides) || !requires_grad ||
        !hooks || !hooks->empty()) {
      return Bad("unexpected arguments of a tensor");
    }
    tensor->storage_offset = *offset;
    tensor->requires_grad = *requires_grad;
    if (arguments->size() == 7) {
      if (auto status = CheckMetadata((*arguments)[6]); !status.ok()) {
        return status;
      }
    }
    return absl::OkStatus();
  }

  // Says why an item of the list is not a plain tensor.
  absl::Status WhatElse(Ref ref) const {
    if (tree_.kind(ref) == Kind::kReduce) {
      const auto callee = tree_.AsGlobal(tree_.children(ref)[0]);
      if (callee && callee->starts_with("torch._utils\n_rebuild_sparse")) {
        return Unsupported("sparse tensors");
      }
      if (callee == "torch._utils\n_rebuild_qtensor") {
        return Unsupported("quantized tensors");
      }
      if (callee) return Bad(absl::StrCat("a call of ", Quote(*callee)));
    }
    return Bad("an item that is not a tensor");
  }

  absl::Status ReadStorage(Ref ref, TensorDescription* tensor) {
    if (tree_.kind(ref) != Kind::kPersistent) return Bad("no storage");
    const Ref id = tree_.children(ref)[0];
    const absl::Span<const Ref> parts = tree_.children(id);
    if (tree_.kind(id) != Kind::kTuple || parts.size() != 5 ||
        tree_.AsString(parts[0]) != "storage") {
      return Bad("unexpected form of a storage");
    }
    const auto key = tree_.AsString(parts[2]);
    const auto elements = tree_.AsInt(parts[4]);
    if (!key || !elements || *elements < 0) {
      return Bad("unexpected form of a storage");
    }
    uint32_t index;
    if (key->empty() || key->size() > 9 || (*key)[0] == '+' ||
        !absl::SimpleAtoi(absl::string_view(key->data(), key->size()),
                          &index)) {
      return Bad(absl::StrCat("storage key ", Quote(*key)));
    }
    tensor->storage_index = index;
    tensor->storage_elements = *elements;
    if (auto status = ReadDevice(parts[3]); !status.ok()) return status;
    tensor->source_device = device_.second;
    if (auto status = ReadType(parts[1]); !status.ok()) return status;
    tensor->dtype = type_.second;
    return absl::OkStatus();
  }

  // Writers mention the device and the type of the storage before once more.
  absl::Status ReadDevice(Ref ref) {
    if (ref == device_.first) return absl::OkStatus();
    const auto text = tree_.AsString(ref);
    if (!text) return Bad("unexpected form of a storage");
    const auto device = ParseDevice(*text);
    if (!device) return Bad(absl::StrCat("device ", Quote(*text)));
    device_ = {ref, *device};
    return absl::OkStatus();
  }
  absl::Status ReadType(Ref ref) {
    if (ref == type_.first) return absl::OkStatus();
    const auto name = tree_.AsGlobal(ref);
    if (!name) return Bad("unexpected form of a storage");
    const auto dtype = ParseStorageType(*name);
    if (!dtype) return Unsupported(absl::StrCat("tensors of ", Quote(*name)));
    type_ = {ref, *dtype};
    return absl::OkStatus();
  }

  bool ReadInts(Ref ref, std::vector<int64_t>* values) const {
    if (tree_.kind(ref) != Kind::kTuple) return false;
    const absl::Span<const Ref> parts = tree_.children(ref);
    if (parts.size() > limits_.max_dimensions) return false;
    values->reserve(parts.size());
    for (Ref part : parts) {
      const auto value = tree_.AsInt(part);
      if (!value) return false;
      values->push_back(*value);
    }
    return true;
  }

  // Later versions of PyTorch add a dict such as {"conj": True}, tagged with
  // its type.
  absl::Status CheckMetadata(Ref ref) const {
    if (const auto tagged = Call(ref, "torch.jit._pickle\nrestore_type_tag")) {
      if (tagged->size() != 2) return Bad("metadata of a tensor");
      ref = (*tagged)[0];
    }
    if (tree_.kind(ref) != Kind::kDict) return Bad("metadata of a tensor");
    const absl::Span<const Ref> entries = tree_.children(ref);
    // One dict can be the metadata of every tensor of the list.
    if (entries.size() > 32) return Bad("metadata of a tensor");
    for (size_t i = 0; i < entries.size(); i += 2) {
      const auto key = tree_.AsString(entries[i]);
      const auto value = tree_.AsBool(entries[i + 1]);
      if (!key || !value) return Bad("metadata of a tensor");
      if (*value) {
        return Unsupported(absl::StrCat("tensors with the bit ", Quote(*key)));
      }
    }
    return absl::OkStatus();
  }

  const PickleTree& tree_;
  const TensorPickleLimits& limits_;
  // Those that were read last.
  std::pair<std::optional<Ref>, Device> device_;
  std::pair<std::optional<Ref>, DType> type_;
};

absl::StatusOr<Tensor> MakeView(
    TensorDescription description,
    absl::Span<const std::shared_ptr<Storage>> storages) {
  if (description.storage_index >= storages.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a tensor is in storage ", description.storage_index,
                     ", of ", storages.size(), " received"));
  }
  Tensor tensor;
  tensor.dtype = description.dtype;
  tensor.sizes = std::move(description.sizes);
  tensor.strides = std::move(description.strides);
  tensor.storage_offset = description.storage_offset;
  tensor.requires_grad = description.requires_grad;
  tensor.storage = storages[description.storage_index];
  if (tensor.storage == nullptr ||
      static_cast<uint64_t>(description.storage_elements) >
          tensor.storage->num_bytes() / SizeOf(tensor.dtype)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "storage ", description.storage_index, " is said to hold ",
        description.storage_elements, " ", std::string(ToString(tensor.dtype)),
        ", but fewer bytes were received"));
  }
  if (auto status = CheckBounds(tensor); !status.ok()) return status;
  return tensor;
}

}  // namespace

std::string_view StorageTypeName(DType dtype) {
  for (const auto& [name, type] : kStorageTypes) {
    if (type == dtype) return name;
  }
  return "";
}

absl::StatusOr<std::vector<TensorDescription>> ParseTensorPickle(
    std::string_view pickle, const TensorPickleLimits& limits) {
  if (pickle == EmptyTensorPickle()) return std::vector<TensorDescription>();
  auto tree = PickleTree::Parse(pickle, limits.pickle);
  if (!tree.ok()) return tree.status();
  try {
    return Reader(*tree, limits).ReadList();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory to read a tensor pickle");
  }
}

absl::StatusOr<std::vector<Tensor>> UnpickleTensors(
    std::string_view pickle,
    absl::Span<const std::shared_ptr<Storage>> storages,
    const TensorPickleLimits& limits) {
  auto descriptions = ParseTensorPickle(pickle, limits);
  if (!descriptions.ok()) return descriptions.status();
  std::vector<Tensor> tensors;
  tensors.reserve(descriptions->size());
  for (TensorDescription& description : *descriptions) {
    auto tensor = MakeView(std::move(description), storages);
    if (!tensor.ok()) return tensor.status();
    tensors.push_back(*std::move(tensor));
  }
  return tensors;
}

}  // namespace reprise
