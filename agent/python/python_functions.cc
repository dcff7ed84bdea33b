#include "agent/python/python_functions.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

constexpr size_t kLongestShownName = 200;

std::string Shown(std::string_view name) {
  return absl::CHexEscape(
      absl::string_view(name.data(), std::min(name.size(), kLongestShownName)));
}

absl::Status Explain(const absl::Status& status, const ReceivedPythonCall& of) {
  return absl::Status(status.code(),
                      absl::StrCat("the arguments of ", Shown(of.module()), ".",
                                   Shown(of.name()), ": ", status.message()));
}

absl::Status WhatElse(const Message& request,
                      const absl::StatusOr<ReceivedPythonCall>& call) {
  if (call.ok()) {
    return absl::NotFoundError(
        absl::StrCat("this worker has no function ", Shown(call->module()), ".",
                     Shown(call->name()),
                     "; it is not Python's, and has only those that "
                     "were added to its PythonFunctions"));
  }
  if (request.type == MessageType::kPythonCall ||
      request.type == MessageType::kScriptCall) {
    return call.status();
  }
  return absl::UnimplementedError(
      absl::StrCat("this worker takes calls of functions, and no requests of "
                   "type ",
                   static_cast<int32_t>(request.type)));
}

}  // namespace

void PythonFunctions::Add(std::string module, std::string name,
                          Function function) {
  functions_[{std::move(module), std::move(name)}] =
      std::make_shared<const Function>(std::move(function));
}

RequestHandler PythonFunctions::Handler(RequestHandler otherwise) const {
  return [functions = functions_, otherwise = std::move(otherwise)](
             Message request, const RequestInfo& info, Reply reply) {
    const absl::StatusOr<ReceivedPythonCall> call =
        ReceivedPythonCall::Parse(request);
    const auto found = call.ok()
                           ? functions.find({call->module(), call->name()})
                           : functions.end();
    if (found == functions.end()) {
      if (otherwise == nullptr) return reply(WhatElse(request, call));
      return otherwise(std::move(request), info, std::move(reply));
    }
    absl::StatusOr<PythonCall> read = call->Read();
    absl::StatusOr<PythonValue> result = read.ok()
                                             ? (*found->second)(*read, info)
                                             : Explain(read.status(), *call);
    reply(EncodePythonReply(result, call->is_script()));
  };
}

}  // namespace reprise
