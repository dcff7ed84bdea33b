#include "agent/python/python_value.h"

#include <cstddef>

namespace reprise {

PythonValue PythonValue::Bytes(std::string bytes) {
  return {Kind::kBytes, std::move(bytes)};
}

PythonValue PythonValue::List(std::vector<PythonValue> items) {
  return {Kind::kList, std::move(items)};
}

PythonValue PythonValue::Tuple(std::vector<PythonValue> items) {
  return {Kind::kTuple, std::move(items)};
}

PythonValue PythonValue::Dict(
    std::vector<std::pair<PythonValue, PythonValue>> items) {
  Items flat;
  flat.reserve(2 * items.size());
  for (auto& [key, value] : items) {
    flat.push_back(std::move(key));
    flat.push_back(std::move(value));
  }
  return {Kind::kDict, std::move(flat)};
}

std::optional<bool> PythonValue::AsBool() const {
  if (kind_ != Kind::kBool) return std::nullopt;
  return std::get<int64_t>(value_) != 0;
}

std::optional<int64_t> PythonValue::AsInt() const {
  if (kind_ != Kind::kInt) return std::nullopt;
  return std::get<int64_t>(value_);
}

std::optional<double> PythonValue::AsFloat() const {
  if (kind_ == Kind::kInt) {
    return static_cast<double>(std::get<int64_t>(value_));
  }
  if (kind_ != Kind::kFloat) return std::nullopt;
  return std::get<double>(value_);
}

const std::string* PythonValue::AsString() const {
  return kind_ == Kind::kString ? &std::get<std::string>(value_) : nullptr;
}

const std::string* PythonValue::AsBytes() const {
  return kind_ == Kind::kBytes ? &std::get<std::string>(value_) : nullptr;
}

const Tensor* PythonValue::AsTensor() const {
  if (kind_ != Kind::kTensor) return nullptr;
  return std::get<std::shared_ptr<const Tensor>>(value_).get();
}

const std::vector<PythonValue>& PythonValue::items() const {
  static const Items& none = *new Items();
  const Items* const items = std::get_if<Items>(&value_);
  return items == nullptr ? none : *items;
}

const PythonValue* PythonValue::Find(std::string_view key) const {
  if (kind_ != Kind::kDict) return nullptr;
  const Items& flat = items();
  for (size_t i = 0; i + 1 < flat.size(); i += 2) {
    const std::string* const text = flat[i].AsString();
    if (text != nullptr && *text == key) return &flat[i + 1];
  }
  return nullptr;
}

std::string_view PythonValue::NameOf(Kind kind) {
  switch (kind) {
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kBytes:
      return "bytes";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kTensor:
      return "Tensor";
  }
  return "object";
}

}  // namespace reprise
