#include "tests/gpu/stock_pickle.h"

#include <string_view>

#include "absl/strings/str_cat.h"

namespace reprise::gpu {
namespace {

// Python's opcodes.
constexpr std::string_view kProtocol2("\x80\x02", 2);
constexpr char kMark[] = "(";
constexpr char kTuple[] = "t";
constexpr char kReduce[] = "R";
constexpr char kStop[] = ".";

std::string Global(const std::string& module, const std::string& name) {
  return absl::StrCat("c", module, "\n", name, "\n");
}

std::string Text(const std::string& text) {
  const auto length = static_cast<char>(text.size());  // below 128
  return std::string("X") + length + std::string(3, '\0') + text;
}

// `_InternalRPCPickler._tensor_receiver(index)`
std::string TensorAt(size_t index) {
  return absl::StrCat(
      Global("builtins", "getattr"), kMark,
      Global("torch.distributed.rpc.internal", "_InternalRPCPickler"),
      Text("_tensor_receiver"), kTuple, kReduce, kMark, "K",
      std::string(1, static_cast<char>(index)), kTuple, kReduce);
}

std::string Tensors(size_t count) {
  std::string tuple = kMark;
  for (size_t i = 0; i < count; ++i) tuple += TensorAt(i);
  return tuple + kTuple;
}

}  // namespace

std::string PickledTensors(size_t count) {
  return std::string(kProtocol2) + Tensors(count) + kStop;
}

std::string PickledCall(const std::string& module, const std::string& function,
                        size_t count) {
  constexpr std::string_view kIsNotAsync("\0", 1);
  constexpr char kEmptyDict[] = "}";
  constexpr char kNewObject[] = "\x81";
  return std::string(kIsNotAsync) + std::string(kProtocol2) +
         Global("torch.distributed.rpc.internal", "PythonUDF") + kMark +
         Global(module, function) + Tensors(count) + kEmptyDict + kTuple +
         kNewObject + kStop;
}

}  // namespace reprise::gpu
