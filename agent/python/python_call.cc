#include "agent/python/python_call.h"

#include <array>
#include <cstddef>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "agent/call_error.h"
#include "agent/python/python_pickle.h"
#include "agent/python/python_text.h"
#include "agent/python/stock_names.h"

namespace reprise {
namespace {

using Kind = PickleTree::Kind;
using Ref = PickleTree::Ref;
using GlobalName = PickleTree::GlobalName;
using stock_names::kBuiltins;
using stock_names::kGetAttribute;
using stock_names::kJitProtocol;
using stock_names::kPythonUdf;
using stock_names::kRemoteException;

// Python's classes for codes, and back: the first with a code is written.
struct ExceptionClass {
  std::string_view name;
  absl::StatusCode code;
};
constexpr std::array<ExceptionClass, 14> kExceptions = {{
    {"ValueError", absl::StatusCode::kInvalidArgument},
    {"TypeError", absl::StatusCode::kInvalidArgument},
    {"LookupError", absl::StatusCode::kNotFound},
    {"KeyError", absl::StatusCode::kNotFound},
    {"FileNotFoundError", absl::StatusCode::kNotFound},
    {"FileExistsError", absl::StatusCode::kAlreadyExists},
    {"IndexError", absl::StatusCode::kOutOfRange},
    {"PermissionError", absl::StatusCode::kPermissionDenied},
    {"TimeoutError", absl::StatusCode::kDeadlineExceeded},
    {"NotImplementedError", absl::StatusCode::kUnimplemented},
    {"MemoryError", absl::StatusCode::kResourceExhausted},
    {"ConnectionError", absl::StatusCode::kUnavailable},
    {"ConnectionRefusedError", absl::StatusCode::kUnavailable},
    {"RuntimeError", absl::StatusCode::kUnknown},
}};

absl::string_view ToAbsl(std::string_view text) {
  return {text.data(), text.size()};
}

std::string_view ClassOf(absl::StatusCode code) {
  for (const ExceptionClass& item : kExceptions) {
    if (item.code == code) return item.name;
  }
  return "RuntimeError";
}

absl::StatusCode CodeOf(const GlobalName& name) {
  for (const ExceptionClass& item : kExceptions) {
    if (name.module == kBuiltins && item.name == name.name) return item.code;
  }
  return absl::StatusCode::kUnknown;
}

// What `PickleTree` makes of `name(arguments...)` of a named tuple; empty
// otherwise.
absl::Span<const Ref> PartsOf(const PickleTree& tree, Ref ref,
                              const GlobalName& name) {
  if (tree.kind(ref) != Kind::kNewObject) return {};
  const absl::Span<const Ref> made = tree.children(ref);
  if (tree.AsGlobalName(made[0]) != name ||
      tree.kind(made[1]) != Kind::kTuple) {
    return {};
  }
  return tree.children(made[1]);
}

absl::Status NoCall(std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("not a call of a named function: ", ToAbsl(what)));
}

// Names the module and the function of a call. A method, as the functions of
// torch are that come in this way, is `getattr(class, name)`.
bool ReadFunction(const PickleTree& tree, Ref ref, std::string& module,
                  std::string& name) {
  std::string_view attribute;
  if (tree.kind(ref) == Kind::kReduce) {
    const absl::Span<const Ref> call = tree.children(ref);
    const absl::Span<const Ref> arguments = tree.children(call[1]);
    if (tree.AsGlobalName(call[0]) != kGetAttribute ||
        tree.kind(call[1]) != Kind::kTuple || arguments.size() != 2) {
      return false;
    }
    const std::optional<std::string_view> text = tree.AsString(arguments[1]);
    if (!text) return false;
    attribute = *text;
    ref = arguments[0];
  }
  const std::optional<GlobalName> global = tree.AsGlobalName(ref);
  if (!global) return false;
  module = std::string(global->module);
  name = std::string(global->name);
  if (attribute.data() != nullptr)
    absl::StrAppend(&name, ".", ToAbsl(attribute));
  return true;
}

absl::Status WriteCall(const PythonCall& call, PickleWriter& pickle,
                       std::vector<Tensor>& tensors) {
  pickle.Global(kPythonUdf.module, kPythonUdf.name);
  pickle.Mark();
  pickle.Global(call.module, call.name);
  absl::Status status = WritePython(PythonValue::Tuple(call.args),
                                    PickleDialect::kPython, pickle, tensors);
  if (!status.ok()) return status;
  std::vector<std::pair<PythonValue, PythonValue>> named;
  for (const auto& [key, value] : call.kwargs) named.emplace_back(key, value);
  status = WritePython(PythonValue::Dict(std::move(named)),
                       PickleDialect::kPython, pickle, tensors);
  pickle.Tuple();
  pickle.NewObject();
  return status;
}

// A pickled exception, as a callee of Python's returns it.
std::string PickledException(const absl::Status& error) {
  PickleWriter pickle;
  pickle.Global(kRemoteException.module, kRemoteException.name);
  pickle.Mark();
  pickle.Text(EscapeForPython(
      std::string_view(error.message().data(), error.message().size())));
  pickle.Global(kBuiltins, ClassOf(error.code()));
  pickle.Tuple();
  pickle.NewObject();
  return std::move(pickle).Finish();
}

}  // namespace

absl::StatusOr<Message> EncodePythonCall(const PythonCall& call) {
  if (call.module.empty() || call.name.empty() || !IsUtf8(call.module) ||
      !IsUtf8(call.name)) {
    return absl::InvalidArgumentError(
        "the module and the name of a Python function must be UTF-8, and not "
        "empty");
  }
  Message request;
  request.type = MessageType::kPythonCall;
  // The byte before the pickle: the function does not answer by a future.
  PickleWriter pickle(std::string(1, '\0'));
  absl::Status status = WriteCall(call, pickle, request.tensors);
  if (!status.ok()) return status;
  request.payload = std::move(pickle).Finish();
  request.streams = call.streams;
  return request;
}

absl::StatusOr<PythonValue> DecodePythonReply(const Message& reply) {
  if (reply.type != MessageType::kPythonRet) {
    return absl::InvalidArgumentError(
        absl::StrCat("a reply of type ", static_cast<int32_t>(reply.type),
                     " is not that of a Python function"));
  }
  const absl::StatusOr<PickleTree> tree =
      PickleTree::Parse(reply.payload, kPythonPickleLimits);
  if (!tree.ok()) return tree.status();
  const absl::Span<const Ref> exception =
      PartsOf(*tree, tree->root(), kRemoteException);
  if (exception.size() == 2) {
    const GlobalName name =
        tree->AsGlobalName(exception[1]).value_or(GlobalName{"", "Exception"});
    const std::string_view text = tree->AsString(exception[0]).value_or("");
    return WithCallError(
        absl::Status(
            CodeOf(name),
            absl::StrCat(ToAbsl(name.module), name.module.empty() ? "" : ".",
                         ToAbsl(name.name), ": ", ToAbsl(text))),
        CallErrorSource::kRemoteHandler);
  }
  return PythonReader(*tree, reply.payload.size(), reply.tensors)
      .Read(tree->root());
}

absl::StatusOr<ReceivedPythonCall> ReceivedPythonCall::Parse(
    const Message& request) {
  if (request.type == MessageType::kPythonCall) return ParsePython(request);
  if (request.type == MessageType::kScriptCall) return ParseScript(request);
  return NoCall("another type of message");
}

absl::StatusOr<ReceivedPythonCall> ReceivedPythonCall::ParsePython(
    const Message& request) {
  if (request.payload.empty()) return NoCall("it is empty");
  absl::StatusOr<PickleTree> tree = PickleTree::Parse(
      std::string_view(request.payload).substr(1), kPythonPickleLimits);
  if (!tree.ok()) return tree.status();
  ReceivedPythonCall call(request, *std::move(tree));
  const absl::Span<const Ref> parts =
      PartsOf(call.tree_, call.tree_.root(), kPythonUdf);
  if (parts.size() != 3) return NoCall("no PythonUDF");
  if (!ReadFunction(call.tree_, parts[0], call.module_, call.name_)) {
    return NoCall("the function is an object");
  }
  call.args_ = parts[1];
  call.kwargs_ = parts[2];
  return call;
}

absl::StatusOr<ReceivedPythonCall> ReceivedPythonCall::ParseScript(
    const Message& request) {
  absl::StatusOr<PickleTree> tree = PickleTree::Parse(request.payload);
  if (!tree.ok()) return tree.status();
  ReceivedPythonCall call(request, *std::move(tree));
  const Ref root = call.tree_.root();
  const absl::Span<const Ref> parts = call.tree_.children(root);
  // The arguments, the schema of an operator (or whether a script function
  // answers by a future), the name.
  constexpr size_t kAfterArguments = 2;
  if (call.tree_.kind(root) != Kind::kTuple || parts.size() < kAfterArguments) {
    return NoCall("no script call");
  }
  const std::optional<std::string_view> name =
      call.tree_.AsString(parts.back());
  const size_t dot = name.value_or("").rfind('.');
  if (!name || dot == name->npos) return NoCall("no script call");
  call.module_ = std::string(name->substr(0, dot));
  call.name_ = std::string(name->substr(dot + 1));
  call.is_script_ = true;
  call.args_ = root;
  call.num_script_args_ = parts.size() - kAfterArguments;
  return call;
}

absl::StatusOr<PythonCall> ReceivedPythonCall::Read() const {
  PythonCall call;
  call.module = module_;
  call.name = name_;
  call.streams = request_->streams;
  PythonReader reader(tree_, request_->payload.size(), request_->tensors);
  if (is_script_) {
    for (const Ref ref : tree_.children(args_).subspan(0, num_script_args_)) {
      absl::StatusOr<PythonValue> value = reader.Read(ref);
      if (!value.ok()) return value.status();
      call.args.push_back(*std::move(value));
    }
    return call;
  }
  absl::StatusOr<std::vector<PythonValue>> args = reader.ReadItems(args_);
  if (!args.ok()) return args.status();
  call.args = *std::move(args);
  const absl::StatusOr<PythonValue> kwargs = reader.Read(kwargs_);
  if (!kwargs.ok()) return kwargs.status();
  if (kwargs->kind() != PythonValue::Kind::kDict) {
    return NoCall("the named arguments are no dictionary");
  }
  for (size_t i = 0; i < kwargs->items().size(); i += 2) {
    const std::string* const key = kwargs->items()[i].AsString();
    if (key == nullptr) return NoCall("an argument's name is no text");
    call.kwargs.emplace_back(*key, kwargs->items()[i + 1]);
  }
  return call;
}

absl::StatusOr<Message> EncodePythonReply(
    const absl::StatusOr<PythonValue>& result, bool is_script) {
  Message reply;
  reply.type = is_script ? MessageType::kScriptRet : MessageType::kPythonRet;
  if (!result.ok()) {
    if (is_script) return result.status();
    reply.payload = PickledException(result.status());
    return reply;
  }
  PickleWriter pickle =
      is_script ? PickleWriter("", kJitProtocol) : PickleWriter();
  absl::Status status = WritePython(
      *result, is_script ? PickleDialect::kJit : PickleDialect::kPython, pickle,
      reply.tensors);
  if (!status.ok()) return status;
  reply.payload = std::move(pickle).Finish();
  return reply;
}

}  // namespace reprise
