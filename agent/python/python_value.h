// A plain value of Python: what the arguments and results of remote functions
// are made of.
//
//   PythonValue::List({1, 2.5, "text", tensor})
//
// It is a value: copies are deep, but share the storages of tensors.

#ifndef REPRISE_AGENT_PYTHON_PYTHON_VALUE_H_
#define REPRISE_AGENT_PYTHON_PYTHON_VALUE_H_

#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "agent/device/tensor.h"

namespace reprise {

class PythonValue {
 public:
  enum class Kind {
    kNone,
    kBool,
    kInt,  // of 64 bits
    kFloat,
    kString,
    kBytes,
    kList,
    kTuple,
    kDict,
    kTensor,
  };

  PythonValue() = default;  // None
  // NOLINTBEGIN(google-explicit-constructor): a value reads as in Python
  PythonValue(std::same_as<bool> auto value)
      : kind_(Kind::kBool), value_(static_cast<int64_t>(value)) {}
  PythonValue(int value) : PythonValue(int64_t{value}) {}
  PythonValue(int64_t value) : kind_(Kind::kInt), value_(value) {}
  PythonValue(double value) : kind_(Kind::kFloat), value_(value) {}
  PythonValue(std::string utf8)
      : kind_(Kind::kString), value_(std::move(utf8)) {}
  PythonValue(const char* utf8) : PythonValue(std::string(utf8)) {}
  PythonValue(Tensor tensor)
      : kind_(Kind::kTensor),
        value_(std::make_shared<const Tensor>(std::move(tensor))) {}
  // NOLINTEND(google-explicit-constructor)
  static PythonValue Bytes(std::string bytes);
  static PythonValue List(std::vector<PythonValue> items);
  static PythonValue Tuple(std::vector<PythonValue> items);
  // In this order. That keys are different, and can be keys, is not checked.
  static PythonValue Dict(
      std::vector<std::pair<PythonValue, PythonValue>> items);

  Kind kind() const { return kind_; }
  bool is_none() const { return kind_ == Kind::kNone; }
  // Nothing, or null, if it is of another kind. A bool is no int here, and an
  // int is a float too.
  std::optional<bool> AsBool() const;
  std::optional<int64_t> AsInt() const;
  std::optional<double> AsFloat() const;
  const std::string* AsString() const;
  const std::string* AsBytes() const;
  const Tensor* AsTensor() const;
  // Of a list or a tuple; of a dictionary key, value, key, value, ... Else
  // empty.
  const std::vector<PythonValue>& items() const;
  // The value of this key of a dictionary; null if there is none.
  const PythonValue* Find(std::string_view key) const;

  // As Python's `type(value).__name__`, for texts.
  static std::string_view NameOf(Kind kind);

 private:
  using Items = std::vector<PythonValue>;
  PythonValue(Kind kind, std::string bytes)
      : kind_(kind), value_(std::move(bytes)) {}
  PythonValue(Kind kind, Items items) : kind_(kind), value_(std::move(items)) {}

  Kind kind_ = Kind::kNone;
  std::variant<int64_t, double, std::string, Items,
               std::shared_ptr<const Tensor>>
      value_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_PYTHON_PYTHON_VALUE_H_
