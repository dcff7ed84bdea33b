// A worker of ours in a group with PyTorch's, that does what it is told.
//
// usage: member
//
// For each line of its input it writes one line: "ok", "ok VALUE", or
// "error STATUS". It ends with its input.
//
//   join NAME ID PREFIX PORT SECONDS
//       joins the dynamic group whose keys have that prefix in the store at
//       PORT, by that time
//   leave
//       leaves it, and shuts down
//   names
//       the members, as this worker knows them
//   wait NAME, gone NAME
//       waits until NAME is a member, or is none
//   call TO MODULE NAME [ARGUMENT...]
//       calls a Python function

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "agent/device/tensor.h"
#include "agent/python/python_call.h"
#include "agent/python/python_functions.h"
#include "agent/python/python_value.h"
#include "agent/runtime/runtime.h"
#include "agent/store/tcp_store.h"
#include "agent/transport/transports.h"

namespace reprise {
namespace {

using Answer = absl::StatusOr<std::string>;

absl::Time Soon() { return RealRuntime().Now() + absl::Seconds(60); }

// Of the tensors here, which are contiguous.
float* Elements(const Tensor& tensor) {
  return static_cast<float*>(tensor.storage->data()) + tensor.storage_offset;
}

Tensor Filled(int64_t count, float value) {
  Tensor tensor = *MakeTensor(DType::kFloat32, {count});
  std::fill_n(Elements(tensor), count, value);
  return tensor;
}

PythonValue Argument(const std::string& word) {
  int64_t number = 0;
  if (absl::SimpleAtoi(word, &number)) return number;
  if (absl::StartsWith(word, "ones:") &&
      absl::SimpleAtoi(word.substr(5), &number)) {
    return Filled(number, 1);
  }
  return word;
}

std::string Show(const PythonValue& value) {
  if (value.is_none()) return "None";
  if (const auto number = value.AsInt()) return absl::StrCat(*number);
  if (const std::string* const text = value.AsString()) return *text;
  std::vector<std::string> parts;
  if (const Tensor* const tensor = value.AsTensor()) {
    for (int64_t i = 0; i < tensor->num_elements(); ++i) {
      parts.push_back(absl::StrCat(Elements(*tensor)[i]));
    }
  }
  for (const PythonValue& item : value.items()) parts.push_back(Show(item));
  const std::string_view name = PythonValue::NameOf(value.kind());
  return absl::StrCat(absl::string_view(name.data(), name.size()), "(",
                      absl::StrJoin(parts, " "), ")");
}

// What is done to each element of the first argument, a tensor, with the second
// one, a number.
PythonFunctions::Function Elementwise(std::function<float(float, float)> work) {
  return [work = std::move(work)](
             const PythonCall& call,
             const RequestInfo&) -> absl::StatusOr<PythonValue> {
    if (call.args.size() < 2 || call.args[0].AsTensor() == nullptr ||
        !call.args[1].AsFloat() ||
        call.args[0].AsTensor()->dtype != DType::kFloat32) {
      return absl::InvalidArgumentError("a tensor of floats and a number");
    }
    const Tensor& tensor = *call.args[0].AsTensor();
    const auto number = static_cast<float>(*call.args[1].AsFloat());
    const Tensor result = Filled(tensor.num_elements(), 0);
    std::transform(Elements(tensor), Elements(tensor) + tensor.num_elements(),
                   Elements(result),
                   [&](float element) { return work(element, number); });
    return PythonValue(result);
  };
}

PythonFunctions OurFunctions() {
  using Value = absl::StatusOr<PythonValue>;
  PythonFunctions functions;
  functions.Add("__main__", "scale", Elementwise(std::multiplies<>()));
  functions.Add("torch.ops.aten", "add", Elementwise(std::plus<>()));
  functions.Add("torch.ops.aten", "numel",
                [](const PythonCall& call, const RequestInfo&) -> Value {
                  return call.args.at(0).AsTensor()->num_elements();
                });
  functions.Add("torch.ops.aten", "split",
                [](const PythonCall& call, const RequestInfo&) -> Value {
                  return PythonValue::List({call.args.at(0), call.args.at(0)});
                });
  functions.Add("__main__", "same",
                [](const PythonCall& call, const RequestInfo&) -> Value {
                  return call.args.at(0);
                });
  functions.Add(
      "__main__", "failing",
      [](const PythonCall& call, const RequestInfo&) -> Value {
        return absl::InvalidArgumentError(*call.args.at(0).AsString());
      });
  return functions;
}

class Member {
 public:
  Answer Do(const std::string& command, const std::vector<std::string>& words) {
    if (command == "join" && words.size() == 5) return Join(words);
    if (agent_ == nullptr) {
      return absl::FailedPreconditionError("not in a group: join first");
    }
    if (command == "leave") return Leave();
    if (command == "names") return Names();
    if (command == "wait" && words.size() == 1) {
      return Empty(agent_->WaitForWorker(words[0], Soon()).status());
    }
    if (command == "gone" && words.size() == 1) return Gone(words[0]);
    if (command == "call" && words.size() >= 3) return Call(words);
    return absl::InvalidArgumentError("no such command");
  }

 private:
  static Answer Empty(absl::Status status) {
    if (!status.ok()) return status;
    return std::string();
  }

  Answer Join(const std::vector<std::string>& words) {
    auto store =
        OpenTcpStore(RealRuntime(), absl::StrCat("tcp://127.0.0.1:", words[3]));
    if (!store.ok()) return store.status();
    AgentOptions options;
    options.name = words[0];
    int seconds = 0;
    if (!absl::SimpleAtoi(words[1], &options.id) ||
        !absl::SimpleAtoi(words[4], &seconds)) {
      return absl::InvalidArgumentError("the id or the timeout is no number");
    }
    options.rpc_timeout = absl::Seconds(seconds);
    options.world_size = kDynamicGroup;
    options.num_worker_threads = 4;
    options.membership_refresh = absl::Milliseconds(200);
    options.transport.bind_address = "127.0.0.1";
    const std::string& prefix = words[2];
    auto agent = Agent::Start(
        {&RealRuntime(), MakePrefixStore(*std::move(store), prefix),
         &RealTransports()},
        options, OurFunctions().Handler(), Soon());
    if (!agent.ok()) return agent.status();
    agent_ = *std::move(agent);
    return std::string();
  }

  Answer Leave() {
    absl::Status status = agent_->Leave(Soon());
    const absl::Status shut_down = agent_->Shutdown(Soon());
    agent_ = nullptr;
    return Empty(status.ok() ? shut_down : status);
  }

  Answer Names() const {
    std::vector<std::string> names;
    for (const WorkerInfo& worker : agent_->GetWorkerInfos()) {
      names.push_back(absl::StrCat(worker.name, "-", worker.id));
    }
    return absl::StrJoin(names, ",");
  }

  Answer Gone(const std::string& name) const {
    while (agent_->GetWorkerInfo(name).ok()) {
      const absl::Time next = RealRuntime().Now() + absl::Milliseconds(20);
      RealRuntime().SleepUntil(next);
    }
    return std::string();
  }

  Answer Call(const std::vector<std::string>& words) const {
    PythonCall call;
    call.module = words[1];
    call.name = words[2];
    for (size_t i = 3; i < words.size(); ++i) {
      const std::pair<std::string, std::string> key =
          absl::StrSplit(words[i], absl::MaxSplits('=', 1));
      if (key.second.empty()) {
        call.args.push_back(Argument(words[i]));
      } else {
        call.kwargs.emplace_back(key.first, Argument(key.second));
      }
    }
    absl::StatusOr<Message> request = EncodePythonCall(call);
    if (!request.ok()) return request.status();
    const Future reply = agent_->Send(words[0], *std::move(request));
    if (!reply.status().ok()) return reply.status();
    const absl::StatusOr<PythonValue> value =
        DecodePythonReply(*reply.result());
    if (!value.ok()) return value.status();
    return Show(*value);
  }

  std::unique_ptr<Agent> agent_;
};

void Serve() {
  Member member;
  std::string line;
  while (std::getline(std::cin, line)) {
    std::vector<std::string> words = absl::StrSplit(line, ' ');
    const std::string command = words[0];
    words.erase(words.begin());
    const Answer answer = member.Do(command, words);
    const std::string text =
        !answer.ok()      ? absl::StrCat("error ", answer.status().ToString())
        : answer->empty() ? "ok"
                          : absl::StrCat("ok ", *answer);
    std::cout << absl::StrReplaceAll(text, {{"\n", " "}}) << std::endl;
  }
}

}  // namespace
}  // namespace reprise

int main() {
  reprise::Serve();
  return 0;
}
