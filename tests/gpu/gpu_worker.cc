// A worker with a GPU, to be started by hand or by run.sh, with another of its
// kind or with a stock PyTorch worker (stock_worker.py).
//
//   gpu_worker --role=server --store=URL [--channel=cuda_direct]
//   gpu_worker --role=client --store=URL [--channel=cuda_direct]
//   gpu_worker --role=stock  --store=tcp://HOST:PORT --channel=cuda_ipc
//
// The client sends the server tensors for some seconds and shuts the group
// down. In the role "stock" it is the worker "ours", with id 1, of the group of
// a stock worker "stock", with id 0; it returns the tensors of each call, by
// way of a function of that worker's if the call names `through_peer`.
// --device=cpu: the same with tensors on CPUs, where there is no GPU.

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/runtime/runtime.h"
#include "agent/store/open_store.h"
#include "agent/transport/transports.h"
#include "tests/gpu/agent_end.h"
#include "tests/gpu/flags.h"
#include "tests/gpu/results.h"
#include "tests/gpu/stock_pickle.h"

namespace reprise::gpu {
namespace {

Runtime& Clock() { return RealRuntime(); }

int Fail(const char* what, const absl::Status& status) {
  std::fprintf(stderr, "%s: %s\n", what, status.ToString().c_str());
  return kFailed;
}

absl::Status CallForSeconds(Gpu& gpu, Agent& agent) {
  constexpr size_t kBytes = size_t{16} << 20;
  const absl::Time end = Clock().Now() + absl::Seconds(3);
  uint64_t seed = 0;
  auto tensor = gpu.Make(kBytes, seed);
  if (!tensor.ok()) return tensor.status();
  const GpuStream stream = gpu.NewStream();
  (*tensor)->RecordUse(stream);
  int64_t num_calls = 0;
  while (Clock().Now() < end) {
    absl::Status status = gpu.Fill(**tensor, ++seed, stream);
    if (!status.ok()) return status;
    Message request{MessageType::kScriptCall, "echo", {BytesOf(*tensor)}};
    request.streams = Only(stream);
    const Future reply = agent.Send(kServer, std::move(request));
    status = reply.Synchronize(gpu.devices());
    if (!status.ok()) return status;
    const Message& message = *reply.result();
    status = gpu.Compare(*message.tensors.at(0).storage, seed,
                         message.streams.On(FirstGpu().index));
    if (!status.ok()) return status;
    ++num_calls;
  }
  std::printf("ok    %lld calls with %zu MiB on the GPU, there and back\n",
              static_cast<long long>(num_calls), kBytes >> 20);
  return absl::OkStatus();
}

int RunOurs(const std::string& role, const std::string& store,
            const std::string& channel) {
  auto gpu = Gpu::Find(/*is_fake=*/false);
  if (!gpu.ok()) return SkipAll(std::string(gpu.status().message()));
  auto agent = StartAgent(**gpu, {channel, "shm", store},
                          role == "server" ? kServer : kClient, nullptr,
                          MakeHandler(**gpu));
  if (!agent.ok()) return Fail("the start", agent.status());
  if (role == "client") {
    const absl::Status status = CallForSeconds(**gpu, **agent);
    if (!status.ok()) return Fail("a call", status);
  }
  absl::Status status =
      (*agent)->JoinForShutdown(Clock().Now() + absl::Seconds(30));
  if (!status.ok()) return Fail("the barrier", status);
  status = (*agent)->Shutdown(Clock().Now() + absl::Seconds(10));
  if (!status.ok()) return Fail("the shutdown", status);
  std::printf("ok    the %s has shut down\n", role.c_str());
  return kPassed;
}

// What the worker "stock" calls.
void Serve(Agent*& agent, Message request, Reply reply) {
  if (!absl::StrContains(request.payload, "through_peer")) {
    Message echo{MessageType::kPythonRet,
                 PickledTensors(request.tensors.size()),
                 std::move(request.tensors)};
    echo.streams = request.streams;
    return reply(std::move(echo));
  }
  Message call{MessageType::kPythonCall,
               PickledCall("__main__", "add_one", request.tensors.size()),
               std::move(request.tensors)};
  call.streams = request.streams;
  agent->Send("stock", std::move(call))
      .Then([reply = std::make_shared<Reply>(std::move(reply))](
                const Future::Result& result) {
        if (!result.ok()) return (*reply)(result.status());
        Message answer = *result;
        if (answer.tensors.empty()) {
          return (*reply)(absl::InternalError(
              absl::StrCat("the stock worker returned no tensor but ",
                           answer.payload.substr(0, 400))));
        }
        answer.payload = PickledTensors(answer.tensors.size());
        (*reply)(std::move(answer));
      });
}

int RunBesideStock(const std::string& url, const std::string& channel,
                   bool on_cpu) {
  absl::StatusOr<std::unique_ptr<Gpu>> gpu =
      absl::UnimplementedError("tensors on CPUs were asked for");
  Devices no_gpus;
  if (!on_cpu) {
    gpu = Gpu::Find(/*is_fake=*/false);
    if (!gpu.ok()) return SkipAll(std::string(gpu.status().message()));
  }
  auto store = OpenStore(Clock(), url);
  if (!store.ok()) return Fail("the store", store.status());
  AgentOptions options;
  options.name = "ours";
  options.id = 1;
  options.world_size = 2;
  options.transport.channels = {"basic"};
  if (!on_cpu) {
    options.transport.channels = {channel, "basic"};
    options.device_maps["stock"] = {{FirstGpu(), FirstGpu()}};
  }
  options.transport.bind_address = "127.0.0.1";
  Agent* serving = nullptr;
  options.start_paused = true;
  auto agent = Agent::Start(
      {.runtime = &Clock(),
       .store = *store,
       .transports = &RealTransports(),
       .devices = on_cpu ? &no_gpus : &(*gpu)->devices()},
      options,
      [&serving](Message request, const RequestInfo&, Reply reply) {
        Serve(serving, std::move(request), std::move(reply));
      },
      Clock().Now() + absl::Seconds(60));
  if (!agent.ok()) return Fail("the start", agent.status());
  serving = agent->get();
  serving->Serve();
  absl::Status status =
      serving->JoinForShutdown(Clock().Now() + absl::Seconds(60));
  if (!status.ok()) return Fail("the barrier", status);
  status = serving->Shutdown(Clock().Now() + absl::Seconds(10));
  if (!status.ok()) return Fail("the shutdown", status);
  return kPassed;
}

int Main(int argc, char** argv) {
  const Flags flags(argc, argv, {"--role", "--store", "--channel", "--device"});
  if (!flags.is_valid()) return kWrongUsage;
  const std::string role = flags.Get("--role");
  std::string channel = flags.Get("--channel");
  if (role == "stock") {
    return RunBesideStock(flags.Get("--store"), channel,
                          flags.Get("--device") == "cpu");
  }
  if (role != "server" && role != "client") {
    std::fprintf(stderr, "--role must be server, client or stock\n");
    return kWrongUsage;
  }
  if (channel.empty()) channel = "cuda_direct";
  return RunOurs(role, flags.Get("--store"), channel);
}

}  // namespace
}  // namespace reprise::gpu

int main(int argc, char** argv) { return reprise::gpu::Main(argc, argv); }
