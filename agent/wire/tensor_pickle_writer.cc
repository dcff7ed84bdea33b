// The writing half of tensor_pickle.h.

#include <array>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "agent/wire/pickle_opcode.h"
#include "agent/wire/tensor_pickle.h"

namespace reprise {
namespace {

namespace op = pickle_opcode;

bool MayRequireGrad(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
    case DType::kBFloat16:
    case DType::kFloat32:
    case DType::kFloat64:
    case DType::kComplex32:
    case DType::kComplex64:
    case DType::kComplex128:
    case DType::kFloat8E5M2:
    case DType::kFloat8E4M3FN:
    case DType::kFloat8E5M2FNUZ:
    case DType::kFloat8E4M3FNUZ:
    case DType::kFloat8E8M0FNU:
      return true;
    default:
      return false;
  }
}

// Every choice here (what is memoised, which width) is libtorch's.
class Pickler {
 public:
  // The memo id of a text that may come again.
  using Memoised = std::optional<uint32_t>;

  explicit Pickler(size_t expected_bytes) { out_.reserve(expected_bytes); }

  std::string Take() && { return std::move(out_); }

  void Byte(char byte) { out_.push_back(byte); }

  void Int(int64_t value) {
    if (value >= 0 && value <= 255) {
      Byte(op::kBinInt1);
      Number(value, 1);
    } else if (value >= 0 && value <= 65535) {
      Byte(op::kBinInt2);
      Number(value, 2);
    } else if (value >= std::numeric_limits<int32_t>::min() &&
               value <= std::numeric_limits<int32_t>::max()) {
      Byte(op::kBinInt);
      Number(value, 4);
    } else {
      Byte(op::kLong1);
      Byte(8);
      Number(value, 8);
    }
  }

  void Ints(absl::Span<const int64_t> values) {
    Byte(op::kMark);
    for (int64_t value : values) Int(value);
    Byte(op::kTuple);
  }

  // A text that has not come before.
  uint32_t String(std::string_view text) {
    Byte(op::kBinUnicode);
    Number(static_cast<int64_t>(text.size()), 4);
    out_ += text;
    return Put();
  }
  void String(std::string_view text, Memoised& id) {
    if (id.has_value()) return Get(*id);
    id = String(text);
  }

  // `parts` make "module\nname\n".
  void Global(Memoised& id, std::initializer_list<std::string_view> parts) {
    if (id.has_value()) return Get(*id);
    Byte(op::kGlobal);
    for (const std::string_view part : parts) out_ += part;
    id = Put();
  }

  uint32_t Put() {
    Memo(op::kBinPut, op::kLongBinPut, next_memo_id_);
    return next_memo_id_++;
  }
  void Get(uint32_t id) { Memo(op::kBinGet, op::kLongBinGet, id); }

 private:
  void Number(int64_t value, size_t bytes) {  // little-endian
    std::array<char, 8> number;
    for (size_t i = 0; i < bytes; ++i) {
      number[i] = static_cast<char>(value >> 8 * i);
    }
    out_.append(number.data(), bytes);
  }

  void Memo(char narrow, char wide, uint32_t id) {
    Byte(id <= 255 ? narrow : wide);
    Number(id, id <= 255 ? 1 : 4);
  }

  std::string out_;
  uint32_t next_memo_id_ = 0;
};

struct PickledStorage {
  size_t index;
  uint32_t memo_id;
};
// Never iterated.
using PickledStorages =
    absl::flat_hash_map<std::pair<const Storage*, DType>, PickledStorage>;

class TensorWriter {
 public:
  explicit TensorWriter(size_t num_tensors)
      : pickler_(kBytesPerTensor * (num_tensors + 1)) {
    known_.reserve(num_tensors);
    result_.storages.reserve(num_tensors);
    result_.storage_of_tensor.reserve(num_tensors);
  }

  TensorPickle Run(absl::Span<const Tensor> tensors) && {
    Pickler::Memoised build_list;
    pickler_.Byte(op::kProto);
    pickler_.Byte(2);
    pickler_.Global(build_list, {"torch.jit._pickle\nbuild_tensorlist\n"});
    pickler_.Byte(op::kMark);
    pickler_.Byte(op::kEmptyList);
    pickler_.Byte(op::kMark);
    for (const Tensor& tensor : tensors) WriteTensor(tensor);
    pickler_.Byte(op::kAppends);
    pickler_.Byte(op::kTuple);
    pickler_.Byte(op::kReduce);
    pickler_.Byte(op::kStop);
    result_.pickle = std::move(pickler_).Take();
    return std::move(result_);
  }

 private:
  // About what a tensor of few dimensions takes.
  static constexpr size_t kBytesPerTensor = 96;

  void WriteTensor(const Tensor& tensor) {
    pickler_.Global(rebuild_, {"torch._utils\n_rebuild_tensor_v2\n"});
    pickler_.Byte(op::kMark);
    WriteStorage(tensor);
    pickler_.Int(tensor.storage_offset);
    pickler_.Ints(tensor.sizes);
    pickler_.Ints(tensor.strides);
    pickler_.Byte(tensor.requires_grad ? op::kNewTrue : op::kNewFalse);
    // No backward hooks.
    pickler_.Global(ordered_dict_, {"collections\nOrderedDict\n"});
    pickler_.Byte(op::kEmptyTuple);
    pickler_.Byte(op::kReduce);
    pickler_.Byte(op::kTuple);
    pickler_.Byte(op::kReduce);
    pickler_.Put();
  }

  void WriteStorage(const Tensor& tensor) {
    auto [storage, is_new] =
        known_.try_emplace({tensor.storage.get(), tensor.dtype});
    if (!is_new) {
      // A stock worker moves the buffer out of its list at the first mention.
      pickler_.Get(storage->second.memo_id);
    } else {
      const size_t index = result_.storages.size();
      pickler_.Byte(op::kMark);
      pickler_.String("storage", storage_);
      pickler_.Global(types_[static_cast<size_t>(tensor.dtype)],
                      {"torch\n", StorageTypeName(tensor.dtype), "Storage\n"});
      const absl::AlphaNum key(index);
      pickler_.String({key.data(), key.size()});
      WriteDevice(tensor.storage->device());
      pickler_.Int(static_cast<int64_t>(tensor.storage->num_bytes() /
                                        SizeOf(tensor.dtype)));
      pickler_.Byte(op::kTuple);
      pickler_.Byte(op::kBinPersId);
      storage->second = {index, pickler_.Put()};
      result_.storages.push_back(tensor.storage);
    }
    result_.storage_of_tensor.push_back(storage->second.index);
  }

  void WriteDevice(const Device& device) {
    if (device.type == "cpu") return pickler_.String(device.type, cpu_);
    const std::string text = device.ToString();
    pickler_.String(text, devices_[text]);
  }

  Pickler pickler_;
  PickledStorages known_;
  TensorPickle result_;
  Pickler::Memoised rebuild_;
  Pickler::Memoised ordered_dict_;
  Pickler::Memoised storage_;
  Pickler::Memoised cpu_;
  std::map<std::string, Pickler::Memoised> devices_;  // all others
  std::array<Pickler::Memoised, kNumDTypes> types_;
};

}  // namespace

absl::Status CheckPicklable(const Tensor& tensor,
                            const TensorPickleLimits& limits) {
  if (tensor.sizes.size() > limits.max_dimensions) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor of ", tensor.sizes.size(), " dimensions; at most ",
                     limits.max_dimensions, " can be sent"));
  }
  if (absl::Status inside = CheckBounds(tensor); !inside.ok()) return inside;
  if (tensor.requires_grad && !MayRequireGrad(tensor.dtype)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a tensor of ", std::string(ToString(tensor.dtype)),
                     " cannot require a gradient"));
  }
  return absl::OkStatus();
}

TensorPickle PickleTensors(absl::Span<const Tensor> tensors) {
  if (!tensors.empty()) return TensorWriter(tensors.size()).Run(tensors);
  TensorPickle result;
  result.pickle = EmptyTensorPickle();
  return result;
}

std::string_view EmptyTensorPickle() {
  static constexpr std::string_view kPickle(
      "\x80\x02"
      "ctorch.jit._pickle\nbuild_tensorlist\n"
      "q\x00(](etR.",
      47);
  return kPickle;
}

}  // namespace reprise
