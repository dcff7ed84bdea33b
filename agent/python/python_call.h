// Calls of PyTorch's workers as messages: a Python function with its arguments,
// a builtin operator, and what comes back.
//
//   reprise::PythonCall call;
//   call.module = "sampler";
//   call.name = "draw";
//   call.args = {17};
//   auto request = EncodePythonCall(std::move(call));
//   Future reply = agent->Send("trainer", *std::move(request));
//   if (!reply.status().ok()) return reply.status();
//   auto value = DecodePythonReply(*reply.result());
//
// Nothing is executed: a function is a name, and objects of classes other than
// those of `PythonValue` are refused. Everything here may be called on any
// thread.

#ifndef REPRISE_AGENT_PYTHON_PYTHON_CALL_H_
#define REPRISE_AGENT_PYTHON_PYTHON_CALL_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/stream_set.h"
#include "agent/message.h"
#include "agent/python/python_value.h"
#include "agent/wire/pickle_tree.h"

namespace reprise {

struct PythonCall {
  // The function is the attribute `name` of `module`, both UTF-8. Of a builtin
  // operator ("torch.ops.aten", "add"), and of a TorchScript function
  // ("__torch__", "f").
  std::string module;
  std::string name;
  // Of a builtin operator all that it has, those that the caller did not give
  // too.
  std::vector<PythonValue> args;
  std::vector<std::pair<std::string, PythonValue>> kwargs;
  // As `Message::streams`, of the tensors in it.
  StreamSet streams = {};
};

// A request for a worker with Python, which calls the function there. A builtin
// such as torch.add is called so too, as a function of the module "torch".
// INVALID_ARGUMENT or RESOURCE_EXHAUSTED for what Python could not read.
absl::StatusOr<Message> EncodePythonCall(const PythonCall& call);

// What a reply to such a request says. An exception that the function has
// raised is an error of the remote handler: its text names the class and has
// the traceback, and its code is that of the class ("ValueError" is
// INVALID_ARGUMENT), UNKNOWN for most.
absl::StatusOr<PythonValue> DecodePythonReply(const Message& reply);

// A request of a worker of PyTorch's, of which the function is read first.
class ReceivedPythonCall {
 public:
  // INVALID_ARGUMENT if `request`, which must outlive the result, is not the
  // call of a named function.
  static absl::StatusOr<ReceivedPythonCall> Parse(const Message& request);

  const std::string& module() const { return module_; }
  const std::string& name() const { return name_; }
  // Whether it came as a builtin operator or a TorchScript function, whose
  // replies are not those of Python.
  bool is_script() const { return is_script_; }

  // Errors as of `PythonReader`.
  absl::StatusOr<PythonCall> Read() const;

 private:
  static absl::StatusOr<ReceivedPythonCall> ParsePython(const Message& request);
  static absl::StatusOr<ReceivedPythonCall> ParseScript(const Message& request);
  ReceivedPythonCall(const Message& request, PickleTree tree)
      : request_(&request), tree_(std::move(tree)) {}

  const Message* request_;
  PickleTree tree_;
  std::string module_;
  std::string name_;
  bool is_script_ = false;
  PickleTree::Ref args_ = 0;  // of a script call followed by other things
  size_t num_script_args_ = 0;
  PickleTree::Ref kwargs_ = 0;
};

// The reply to such a call. For a Python function an error becomes an exception
// of the class that fits its code, which its caller raises; for a script call
// it is returned, and goes as the error of any handler. So does a value that
// cannot be written.
absl::StatusOr<Message> EncodePythonReply(
    const absl::StatusOr<PythonValue>& result, bool is_script);

}  // namespace reprise

#endif  // REPRISE_AGENT_PYTHON_PYTHON_CALL_H_
