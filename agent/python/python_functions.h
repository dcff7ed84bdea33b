// Functions of ours that PyTorch's workers call by name, as they call those of
// Python.
//
//   reprise::PythonFunctions functions;
//   functions.Add("sampler", "draw",
//                 [&](const PythonCall& call, const RequestInfo&)
//                     -> absl::StatusOr<PythonValue> { ... });
//   auto agent = Agent::Start(environment, options,
//                             functions.Handler(other_handler), deadline);
//
// and in Python, where a module "sampler" must define a function "draw" that is
// only a name:
//
//   rpc.rpc_sync("ours", sampler.draw, args=(17,))

#ifndef REPRISE_AGENT_PYTHON_PYTHON_FUNCTIONS_H_
#define REPRISE_AGENT_PYTHON_PYTHON_FUNCTIONS_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "agent/python/python_call.h"
#include "agent/python/python_value.h"
#include "agent/request.h"

namespace reprise {

// Not thread-safe; the handlers that it makes are.
class PythonFunctions {
 public:
  // Runs as a handler does: on the worker pool, several at a time. Its error
  // becomes an exception at the caller.
  using Function = std::function<absl::StatusOr<PythonValue>(
      const PythonCall& call, const RequestInfo& info)>;

  // A later one of the same name takes the place of the earlier one. A builtin
  // operator of PyTorch, which rpc_sync(..., torch.add, ...) calls, is
  // ("torch.ops.aten", "add").
  void Add(std::string module, std::string name, Function function);

  // Serves the functions that were added so far. Other requests, and calls of
  // other functions, go to `otherwise`; without one they are NOT_FOUND or
  // UNIMPLEMENTED. A call that cannot be read is INVALID_ARGUMENT, or
  // RESOURCE_EXHAUSTED if it is too large.
  RequestHandler Handler(RequestHandler otherwise = nullptr) const;

 private:
  std::map<std::pair<std::string, std::string>, std::shared_ptr<const Function>>
      functions_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_PYTHON_PYTHON_FUNCTIONS_H_
