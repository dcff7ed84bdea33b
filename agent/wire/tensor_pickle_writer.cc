// The writing half of tensor_pickle.h.

#include <cstring>
#include <limits>
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
    case DType::kComplex64:
    case DType::kComplex128:
      return true;
    default:
      return false;
  }
}

// Every choice here (what is memoised, which width) is libtorch's.
class Pickler {
 public:
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

  void String(const std::string& text) {
    auto [known, is_new] = strings_.try_emplace(text, next_memo_id_);
    if (!is_new) return Get(known->second);
    Byte(op::kBinUnicode);
    Number(static_cast<int64_t>(text.size()), 4);
    out_ += text;
    Put();
  }

  // `name`: "module\nname\n".
  void Global(const std::string& name) {
    auto [known, is_new] = globals_.try_emplace(name, next_memo_id_);
    if (!is_new) return Get(known->second);
    Byte(op::kGlobal);
    out_ += name;
    Put();
  }

  uint32_t Put() {
    Memo(op::kBinPut, op::kLongBinPut, next_memo_id_);
    return next_memo_id_++;
  }
  void Get(uint32_t id) { Memo(op::kBinGet, op::kLongBinGet, id); }

 private:
  void Number(int64_t value, int bytes) {  // little-endian
    for (int i = 0; i < bytes; ++i) Byte(static_cast<char>(value >> 8 * i));
  }

  void Memo(char narrow, char wide, uint32_t id) {
    Byte(id <= 255 ? narrow : wide);
    Number(id, id <= 255 ? 1 : 4);
  }

  std::string out_;
  uint32_t next_memo_id_ = 0;
  // Never iterated.
  absl::flat_hash_map<std::string, uint32_t> strings_;
  absl::flat_hash_map<std::string, uint32_t> globals_;
};

struct PickledStorage {
  size_t index;
  uint32_t memo_id;
};
// Never iterated.
using PickledStorages =
    absl::flat_hash_map<std::pair<const Storage*, DType>, PickledStorage>;

void WriteStorage(const Tensor& tensor, PickledStorages& known,
                  Pickler& pickler, TensorPickle& result) {
  auto [storage, is_new] =
      known.try_emplace({tensor.storage.get(), tensor.dtype});
  if (!is_new) {
    // A stock worker moves the buffer out of its list at the first mention, so
    // a storage must not be mentioned in full again.
    pickler.Get(storage->second.memo_id);
  } else {
    const Device& device = tensor.storage->device();
    const size_t index = result.storages.size();
    pickler.Byte(op::kMark);
    pickler.String("storage");
    const std::string_view type = StorageTypeName(tensor.dtype);
    pickler.Global(absl::StrCat("torch\n", std::string(type), "Storage\n"));
    pickler.String(absl::StrCat(index));
    pickler.String(device.type == "cpu" ? device.type : device.ToString());
    pickler.Int(static_cast<int64_t>(tensor.storage->num_bytes() /
                                     SizeOf(tensor.dtype)));
    pickler.Byte(op::kTuple);
    pickler.Byte(op::kBinPersId);
    storage->second = {index, pickler.Put()};
    result.storages.push_back(tensor.storage);
  }
  result.storage_of_tensor.push_back(storage->second.index);
}

void WriteTensor(const Tensor& tensor, PickledStorages& known, Pickler& pickler,
                 TensorPickle& result) {
  pickler.Global("torch._utils\n_rebuild_tensor_v2\n");
  pickler.Byte(op::kMark);
  WriteStorage(tensor, known, pickler, result);
  pickler.Int(tensor.storage_offset);
  pickler.Ints(tensor.sizes);
  pickler.Ints(tensor.strides);
  pickler.Byte(tensor.requires_grad ? op::kNewTrue : op::kNewFalse);
  pickler.Global("collections\nOrderedDict\n");  // no backward hooks
  pickler.Byte(op::kEmptyTuple);
  pickler.Byte(op::kReduce);
  pickler.Byte(op::kTuple);
  pickler.Byte(op::kReduce);
  pickler.Put();
}

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
  TensorPickle result;
  if (tensors.empty()) {
    result.pickle = EmptyTensorPickle();
    return result;
  }
  Pickler pickler;
  PickledStorages known;
  pickler.Byte(op::kProto);
  pickler.Byte(2);
  pickler.Global("torch.jit._pickle\nbuild_tensorlist\n");
  pickler.Byte(op::kMark);
  pickler.Byte(op::kEmptyList);
  pickler.Byte(op::kMark);
  for (const Tensor& tensor : tensors) {
    WriteTensor(tensor, known, pickler, result);
  }
  pickler.Byte(op::kAppends);
  pickler.Byte(op::kTuple);
  pickler.Byte(op::kReduce);
  pickler.Byte(op::kStop);
  result.pickle = std::move(pickler).Take();
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
