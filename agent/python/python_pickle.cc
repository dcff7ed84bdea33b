#include "agent/python/python_pickle.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/python/python_text.h"
#include "agent/python/stock_names.h"

namespace reprise {
namespace {

using Kind = PickleTree::Kind;
using Ref = PickleTree::Ref;
using GlobalName = PickleTree::GlobalName;
using stock_names::kGetAttribute;
using stock_names::kInternal;

constexpr std::string_view kJitModule = "torch.jit._pickle";
constexpr GlobalName kJitTensor{kJitModule, "build_tensor_from_id"};
constexpr GlobalName kJitTypeTag{kJitModule, "restore_type_tag"};
constexpr GlobalName kPickler{kInternal, "_InternalRPCPickler"};
constexpr std::string_view kTensorReceiver = "_tensor_receiver";

constexpr size_t kMaxCopiedText = size_t{16} << 20;
constexpr size_t kMaxTensors = 65536;

absl::Status Bad(std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(
      "bad pickle of Python: ", absl::string_view(what.data(), what.size())));
}

absl::Status TooMuch() {
  return absl::ResourceExhaustedError(
      absl::StrCat("a value of Python that is nested more than ",
                   kMaxPythonDepth, " deep, or too large"));
}

// A peer's name of a class, for a text.
std::string Printable(const GlobalName& name) {
  const auto escape = [](std::string_view text) {
    return absl::CHexEscape(
        absl::string_view(text.data(), std::min<size_t>(text.size(), 100)));
  };
  return absl::StrCat(escape(name.module), ".", escape(name.name));
}

// Whether `ref` is `_InternalRPCPickler._tensor_receiver`, which Python writes
// as `getattr(_InternalRPCPickler, "_tensor_receiver")`.
bool IsTensorReceiver(const PickleTree& tree, Ref ref) {
  if (tree.kind(ref) != Kind::kReduce) return false;
  const absl::Span<const Ref> call = tree.children(ref);
  const absl::Span<const Ref> arguments = tree.children(call[1]);
  return tree.AsGlobalName(call[0]) == kGetAttribute &&
         tree.kind(call[1]) == Kind::kTuple && arguments.size() == 2 &&
         tree.AsGlobalName(arguments[0]) == kPickler &&
         tree.AsString(arguments[1]) == kTensorReceiver;
}

bool IsJitList(const GlobalName& name) {
  return name.module == kJitModule &&
         (name.name == "build_intlist" || name.name == "build_doublelist" ||
          name.name == "build_boollist" || name.name == "build_tensorlist");
}

}  // namespace

PythonReader::PythonReader(const PickleTree& tree, size_t pickle_bytes,
                           absl::Span<const Tensor> tensors)
    : tree_(tree),
      tensors_(tensors),
      text_left_(kMaxCopiedText + pickle_bytes) {}

absl::StatusOr<PythonValue> PythonReader::Read(Ref ref) {
  return ReadAt(ref, 0);
}

absl::StatusOr<std::vector<PythonValue>> PythonReader::ReadItems(Ref ref) {
  if (tree_.kind(ref) != Kind::kTuple && tree_.kind(ref) != Kind::kList) {
    return Bad("no tuple");
  }
  return ReadChildren(ref, 0);
}

absl::Status PythonReader::Take(size_t text_bytes) {
  if (values_left_ == 0 || text_left_ < text_bytes) return TooMuch();
  --values_left_;
  text_left_ -= text_bytes;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<PythonValue>> PythonReader::ReadChildren(Ref ref,
                                                                    int depth) {
  const absl::Span<const Ref> children = tree_.children(ref);
  if (children.size() > values_left_) return TooMuch();
  std::vector<PythonValue> items;
  for (const Ref child : children) {
    absl::StatusOr<PythonValue> item = ReadAt(child, depth + 1);
    if (!item.ok()) return item.status();
    items.push_back(*std::move(item));
  }
  return items;
}

absl::StatusOr<PythonValue> PythonReader::ReadAt(Ref ref, int depth) {
  if (depth > kMaxPythonDepth) return TooMuch();
  const Kind kind = tree_.kind(ref);
  const std::optional<std::string_view> text =
      kind == Kind::kBytes ? tree_.AsBytes(ref) : tree_.AsString(ref);
  if (absl::Status status = Take(text.value_or("").size()); !status.ok()) {
    return status;
  }
  switch (kind) {
    case Kind::kNone:
      return PythonValue();
    case Kind::kBool:
      return PythonValue(*tree_.AsBool(ref));
    case Kind::kInt:
      return PythonValue(*tree_.AsInt(ref));
    case Kind::kFloat:
      return PythonValue(*tree_.AsFloat(ref));
    case Kind::kString:
      return PythonValue(std::string(*text));
    case Kind::kBytes:
      return PythonValue::Bytes(std::string(*text));
    case Kind::kTuple:
    case Kind::kList:
    case Kind::kDict: {
      absl::StatusOr<std::vector<PythonValue>> items = ReadChildren(ref, depth);
      if (!items.ok()) return items.status();
      if (kind == Kind::kTuple) return PythonValue::Tuple(*std::move(items));
      if (kind == Kind::kList) return PythonValue::List(*std::move(items));
      std::vector<std::pair<PythonValue, PythonValue>> pairs;
      pairs.reserve(items->size() / 2);
      for (size_t i = 0; i < items->size(); i += 2) {
        pairs.emplace_back(std::move((*items)[i]), std::move((*items)[i + 1]));
      }
      return PythonValue::Dict(std::move(pairs));
    }
    default:
      return ReadObject(ref, depth);
  }
}

absl::StatusOr<PythonValue> PythonReader::ReadObject(Ref ref, int depth) {
  const Kind kind = tree_.kind(ref);
  if (kind == Kind::kGlobal || kind == Kind::kStackGlobal) {
    return absl::UnimplementedError(absl::StrCat(
        "the class or function ", Printable(*tree_.AsGlobalName(ref)),
        " as a value is not supported"));
  }
  // What was made by a call of `maker`, or by that and then given a state.
  while (tree_.kind(ref) == Kind::kBuild && depth++ < kMaxPythonDepth) {
    ref = tree_.children(ref)[0];
  }
  const absl::Span<const Ref> call = tree_.children(ref);
  if (call.size() != 2) return Bad("no object");
  const Ref maker = call[0];
  if (kind == Kind::kReduce && IsTensorReceiver(tree_, maker)) {
    return ReadTensor(call[1]);
  }
  const std::optional<GlobalName> name = tree_.AsGlobalName(maker);
  if (!name) return Bad("an object that no class makes");
  if (kind == Kind::kReduce && name == kJitTensor) return ReadTensor(call[1]);
  const absl::Span<const Ref> arguments = tree_.children(call[1]);
  if (kind == Kind::kReduce && !arguments.empty() &&
      tree_.kind(call[1]) == Kind::kTuple &&
      (name == kJitTypeTag || IsJitList(*name))) {
    return ReadAt(arguments[0], depth + 1);
  }
  return absl::UnimplementedError(
      absl::StrCat("objects of ", Printable(*name), " are not supported"));
}

absl::StatusOr<PythonValue> PythonReader::ReadTensor(Ref arguments) {
  const absl::Span<const Ref> parts = tree_.children(arguments);
  const std::optional<int64_t> index =
      tree_.kind(arguments) == Kind::kTuple && parts.size() == 1
          ? tree_.AsInt(parts[0])
          : std::nullopt;
  if (!index || *index < 0 ||
      static_cast<uint64_t>(*index) >= tensors_.size()) {
    return Bad("a tensor that the message does not have");
  }
  return PythonValue(tensors_[static_cast<size_t>(*index)]);
}

namespace {

bool HasHash(const PythonValue& value) {
  switch (value.kind()) {
    case PythonValue::Kind::kList:
    case PythonValue::Kind::kDict:
    case PythonValue::Kind::kTensor:
      return false;
    default:
      // Items of a tuple; nothing else has any.
      return std::all_of(value.items().begin(), value.items().end(), HasHash);
  }
}

class Writer {
 public:
  Writer(PickleDialect dialect, PickleWriter& pickle,
         std::vector<Tensor>& tensors)
      : dialect_(dialect), pickle_(pickle), tensors_(tensors) {}

  absl::Status Write(const PythonValue& value, int depth) {
    if (depth > kMaxPythonDepth || values_left_-- == 0) return TooMuch();
    switch (value.kind()) {
      case PythonValue::Kind::kNone:
        pickle_.None();
        return absl::OkStatus();
      case PythonValue::Kind::kBool:
        pickle_.Bool(*value.AsBool());
        return absl::OkStatus();
      case PythonValue::Kind::kInt:
        pickle_.Int(*value.AsInt());
        return absl::OkStatus();
      case PythonValue::Kind::kFloat:
        pickle_.Float(*value.AsFloat());
        return absl::OkStatus();
      case PythonValue::Kind::kString:
        if (!IsUtf8(*value.AsString())) {
          return absl::InvalidArgumentError(
              "a str of Python must be UTF-8: use PythonValue::Bytes");
        }
        if (!Fits(*value.AsString())) return TooMuch();
        pickle_.Text(*value.AsString());
        return absl::OkStatus();
      case PythonValue::Kind::kBytes:
        if (is_jit()) return NotOfTheJit(value);
        if (!Fits(*value.AsBytes())) return TooMuch();
        pickle_.Bytes(*value.AsBytes());
        return absl::OkStatus();
      case PythonValue::Kind::kTuple:
        if (value.items().empty()) {
          pickle_.EmptyTuple();
          return absl::OkStatus();
        }
        return WriteItems(value, depth, &PickleWriter::Tuple);
      case PythonValue::Kind::kList:
        pickle_.EmptyList();
        return WriteItems(value, depth, &PickleWriter::Appends);
      case PythonValue::Kind::kDict:
        return WriteDict(value, depth);
      case PythonValue::Kind::kTensor:
        return WriteTensor(*value.AsTensor());
    }
    return Bad("a value of no kind");
  }

 private:
  bool is_jit() const { return dialect_ == PickleDialect::kJit; }

  static bool Fits(const std::string& text) {
    return text.size() <= std::numeric_limits<uint32_t>::max();
  }

  static absl::Status NotOfTheJit(const PythonValue& value) {
    const std::string_view name = PythonValue::NameOf(value.kind());
    return absl::InvalidArgumentError(
        absl::StrCat("a builtin operator has no value of type ",
                     absl::string_view(name.data(), name.size())));
  }

  absl::Status WriteItems(const PythonValue& value, int depth,
                          void (PickleWriter::*end)()) {
    pickle_.Mark();
    for (const PythonValue& item : value.items()) {
      if (absl::Status status = Write(item, depth + 1); !status.ok()) {
        return status;
      }
    }
    (pickle_.*end)();
    return absl::OkStatus();
  }

  absl::Status WriteDict(const PythonValue& value, int depth) {
    if (is_jit()) return NotOfTheJit(value);
    for (size_t i = 0; i < value.items().size(); i += 2) {
      if (HasHash(value.items()[i])) continue;
      const std::string_view name =
          PythonValue::NameOf(value.items()[i].kind());
      return absl::InvalidArgumentError(
          absl::StrCat("a ", absl::string_view(name.data(), name.size()),
                       " cannot be the key of a dictionary of Python"));
    }
    pickle_.EmptyDict();
    return WriteItems(value, depth, &PickleWriter::SetItems);
  }

  absl::Status WriteTensor(const Tensor& tensor) {
    if (tensors_.size() >= kMaxTensors) {
      return absl::ResourceExhaustedError(
          absl::StrCat("more than ", kMaxTensors, " tensors in a message"));
    }
    if (is_jit()) {
      pickle_.Global(kJitTensor.module, kJitTensor.name);
    } else {
      pickle_.Global(kGetAttribute.module, kGetAttribute.name);
      pickle_.Mark();
      pickle_.Global(kPickler.module, kPickler.name);
      pickle_.Text(kTensorReceiver);
      pickle_.Tuple();
      pickle_.Reduce();
    }
    pickle_.Mark();
    pickle_.Int(static_cast<int64_t>(tensors_.size()));
    pickle_.Tuple();
    pickle_.Reduce();
    tensors_.push_back(tensor);
    return absl::OkStatus();
  }

  const PickleDialect dialect_;
  PickleWriter& pickle_;
  std::vector<Tensor>& tensors_;
  size_t values_left_ = kMaxPythonValues;
};

}  // namespace

absl::Status WritePython(const PythonValue& value, PickleDialect dialect,
                         PickleWriter& pickle, std::vector<Tensor>& tensors) {
  return Writer(dialect, pickle, tensors).Write(value, 0);
}

}  // namespace reprise
