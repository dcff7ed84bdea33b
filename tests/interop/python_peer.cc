// The worker "ours" of a static group with one PyTorch worker in Python, the
// worker "stock": python_group.py starts it and calls its functions.
//
//   python_peer --store=URL --id=0|1 --transport=uv --channel=basic [--later]
//
// It knows no Python. A call of a function is answered by its name:
//   echo          with the tensors
//   through_peer  with what the function `same` of the caller makes of them
//   fail          with an error
//   hold          never, until `release` is called: then with the tensors
// --later: the PyTorch has the types that came after 1.13.

#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "agent/runtime/runtime.h"
#include "agent/store/open_store.h"
#include "agent/transport/transports.h"
#include "tests/gpu/flags.h"
#include "tests/gpu/stock_pickle.h"

namespace reprise::interop {
namespace {

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(1); }

int Fail(const char* what, const absl::Status& status) {
  std::fprintf(stderr, "%s: %s\n", what, status.ToString().c_str());
  return 1;
}

Message Echo(std::vector<Tensor> tensors) {
  return {MessageType::kPythonRet, gpu::PickledTensors(tensors.size()),
          std::move(tensors)};
}

class Functions {
 public:
  void set_agent(Agent* agent) { agent_ = agent; }

  void Call(Message request, Reply reply) {
    const auto is = [&](const char* name) {
      return absl::StrContains(request.payload, name);
    };
    if (is("through_peer")) {
      ThroughPeer(std::move(request.tensors), std::move(reply));
    } else if (is("fail")) {
      reply(absl::NotFoundError("there is no such thing"));
    } else if (is("hold")) {
      const std::lock_guard<std::mutex> lock(mutex_);
      held_.emplace_back(std::move(request.tensors), std::move(reply));
    } else if (is("release")) {
      std::unique_lock<std::mutex> lock(mutex_);
      auto held = std::exchange(held_, {});
      lock.unlock();
      for (auto& [tensors, waits] : held) waits(Echo(std::move(tensors)));
      reply(Echo({}));
    } else {
      reply(Echo(std::move(request.tensors)));
    }
  }

 private:
  void ThroughPeer(std::vector<Tensor> tensors, Reply reply) {
    const std::string call =
        gpu::PickledCall("__main__", "same", tensors.size());
    agent_->Send("stock", {MessageType::kPythonCall, call, std::move(tensors)})
        .Then([reply = std::make_shared<Reply>(std::move(reply))](
                  const Future::Result& result) {
          if (!result.ok()) return (*reply)(result.status());
          (*reply)(Echo(result->tensors));
        });
  }

  Agent* agent_ = nullptr;
  std::mutex mutex_;
  std::vector<std::pair<std::vector<Tensor>, Reply>> held_;
};

int Main(int argc, char** argv) {
  const gpu::Flags flags(
      argc, argv, {"--store", "--id", "--transport", "--channel", "--later"});
  if (!flags.is_valid()) return 2;
  auto store = OpenStore(RealRuntime(), flags.Get("--store"));
  if (!store.ok()) return Fail("the store", store.status());
  AgentOptions options;
  options.name = "ours";
  options.id = flags.Get("--id") == "0" ? 0 : 1;
  options.world_size = 2;
  options.transport.transports = {flags.Get("--transport")};
  options.transport.channels = {flags.Get("--channel")};
  options.transport.bind_address = "127.0.0.1";
  options.start_paused = true;
  options.stock_workers_know_later_types = flags.Has("--later");
  Functions functions;
  auto agent = Agent::Start(
      {&RealRuntime(), *store, &RealTransports()}, options,
      [&functions](Message request, const RequestInfo&, Reply reply) {
        functions.Call(std::move(request), std::move(reply));
      },
      Later());
  if (!agent.ok()) return Fail("the start", agent.status());
  functions.set_agent(agent->get());
  (*agent)->Serve();
  absl::Status status = (*agent)->JoinForShutdown(Later());
  if (!status.ok()) return Fail("the barrier", status);
  status = (*agent)->Shutdown(Later());
  if (!status.ok()) return Fail("the shutdown", status);
  return 0;
}

}  // namespace
}  // namespace reprise::interop

int main(int argc, char** argv) { return reprise::interop::Main(argc, argv); }
