// A parameter server on a GPU: clients push their parts of the parameters and
// pull all of them, at the same time, and nobody waits on the host. The server
// orders everything by one stream of its own.

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/runtime/mutex.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/gpu_work.h"

namespace reprise::scenarios {
namespace {

constexpr int kSteps = 5;  // of each client
constexpr int64_t kPartBytes = 6000;
constexpr int kServerGpu = 0;
constexpr size_t kHeaderBytes = 2 * sizeof(uint64_t);

// What a client has pushed in a step: it tells whose it is, and of which step.
std::string PartOf(int client, uint64_t step) {
  std::string part =
      BytesOf(HashCombine(static_cast<uint64_t>(client), step), kPartBytes);
  const uint64_t header[] = {static_cast<uint64_t>(client), step};
  static_assert(sizeof(header) == kHeaderBytes);
  std::memcpy(part.data(), header, kHeaderBytes);
  return part;
}

class Server {
 public:
  Server(Worker& worker, GpuWork& work)
      : work_(work),
        num_clients_(worker.world_size() - 1),
        mutex_(worker.runtime(), "Server") {}

  absl::Status Fill() {
    const auto stream = work_.NewStream(kServerGpu);
    if (!stream.ok()) return stream.status();
    stream_ = *stream;
    std::string bytes;
    for (int client = 1; client <= num_clients_; ++client) {
      bytes += PartOf(client, 0);
    }
    auto parameters = work_.Make(GpuDevice(kServerGpu), stream_, bytes);
    if (!parameters.ok()) return parameters.status();
    parameters_ = *std::move(parameters);
    return absl::OkStatus();
  }

  absl::StatusOr<Message> Handle(const Message& request) {
    MutexLock lock(mutex_);
    return request.tensors.empty() ? Pull() : Push(request);
  }

 private:
  absl::StatusOr<Message> Push(const Message& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const Tensor& part = request.tensors[0];
    const int client = request.payload[0] - '0';
    absl::Status status = work_.Order(stream_, request.streams.On(kServerGpu));
    if (!status.ok()) return status;
    part.storage->RecordUse(stream_);
    status = work_.devices().gpu_driver()->Copy(
        static_cast<char*>(parameters_.storage->data()) +
            (client - 1) * kPartBytes,
        part.storage->data(), kPartBytes, stream_);
    if (!status.ok()) return status;
    return Message{MessageType::kScriptRet, "", {}};
  }

  // The parameters may change before they are sent, so a copy is sent.
  absl::StatusOr<Message> Pull() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    auto copy =
        work_.Turn(parameters_, GpuDevice(kServerGpu), stream_, /*by=*/0);
    if (!copy.ok()) return copy.status();
    Message reply{MessageType::kScriptRet, "", {*std::move(copy)}};
    reply.streams = Only(stream_);
    return reply;
  }

  GpuWork& work_;
  const int num_clients_;
  Mutex mutex_;
  GpuStream stream_;  // everything that touches the parameters is on it
  Tensor parameters_;
};

class Client {
 public:
  Client(Worker& worker, GpuWork& work, Agent& agent)
      : worker_(worker), work_(work), agent_(agent) {}

  void Run() {
    Draws random = worker_.random("steps");
    const int gpu = GpuOf(worker_.rank());
    const auto stream = work_.NewStream(gpu);
    if (!worker_.CheckOk(stream.status(), "gpu")) return;
    for (uint64_t step = 1; step <= kSteps; ++step) {
      if (!worker_.CheckOk(Push(*stream, step), "push")) return;
      if (random.OneIn("no pull", 3)) continue;
      if (!worker_.CheckOk(Pull(*stream, step), "pull")) return;
    }
    worker_.CheckOk(Pull(*stream, kSteps), "pull");
  }

  static int GpuOf(int rank) { return rank % 2; }

 private:
  absl::Status Push(GpuStream stream, uint64_t step) {
    auto part = work_.Make(GpuDevice(stream.device), stream,
                           PartOf(worker_.rank(), step));
    if (!part.ok()) return part.status();
    Message request{MessageType::kScriptCall,
                    absl::StrCat(worker_.rank()),
                    {*std::move(part)}};
    request.streams = Only(stream);
    return agent_.Send(worker_.NameOf(0), std::move(request), {.label = "push"})
        .status();
  }

  absl::Status Pull(GpuStream stream, uint64_t step) {
    const Future reply = agent_.Send(
        worker_.NameOf(0), Message{MessageType::kScriptCall, "pull", {}},
        {.label = "pull"});
    absl::Status status = reply.WaitOn(work_.devices(), Only(stream));
    if (!status.ok()) return status;
    const auto bytes = work_.Read(reply.result()->tensors[0], stream);
    if (!bytes.ok()) return bytes.status();
    for (int client = 1; client < worker_.world_size(); ++client) {
      const std::string part =
          bytes->substr((client - 1) * kPartBytes, kPartBytes);
      uint64_t header[2];
      std::memcpy(header, part.data(), kHeaderBytes);
      uint64_t& seen = seen_[client];
      worker_.Check(part == PartOf(client, header[1]) && header[1] >= seen &&
                        (client != worker_.rank() || header[1] == step),
                    "content",
                    absl::StrCat("in step ", step, " the part of ", client,
                                 " is of ", header[0], " and step ", header[1],
                                 "; seen before: ", seen));
      if (client != worker_.rank() && header[1] > seen) {
        worker_.Reached("saw what another one pushed");
      }
      seen = header[1];
    }
    return absl::OkStatus();
  }

  Worker& worker_;
  GpuWork& work_;
  Agent& agent_;
  std::map<int, uint64_t> seen_;  // by client, the step
};

void GpuParameterServer(Worker& worker) {
  if (worker.environment().devices == nullptr) {
    return worker.Note("this worker has no GPUs");
  }
  GpuWork work(worker);
  std::shared_ptr<Server> server;
  if (worker.rank() == 0) {
    server = std::make_shared<Server>(worker, work);
    if (!worker.CheckOk(server->Fill(), "gpu")) return;
  }
  AgentOptions options = worker.options();
  options.device_maps[worker.NameOf(0)] = {
      {GpuDevice(Client::GpuOf(worker.rank())), GpuDevice(kServerGpu)}};
  Draws random = worker.random("options");
  options.transport.channels = DrawGpuChannels(random.Part("channels"));
  auto agent = Agent::Start(
      worker.environment(), options,
      Blocking([server](Message request, const RequestInfo& /*info*/)
                   -> absl::StatusOr<Message> {
        if (server == nullptr) return absl::UnimplementedError("no server");
        return server->Handle(request);
      }),
      worker.In(absl::Seconds(30)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  if (worker.rank() != 0) Client(worker, work, **agent).Run();
  worker.CheckOk((*agent)->JoinForShutdown(worker.In(absl::Minutes(1))),
                 "join");
  worker.CheckOk((*agent)->Shutdown(worker.In(absl::Seconds(30))), "shutdown");
}

std::vector<std::string> SomeStall(Draws random,
                                   const ScenarioParams& /*params*/) {
  if (random.OneIn("no stall", 2)) return {};
  const auto worker = static_cast<int64_t>(random.Below("worker", 4));
  const int64_t after = random.Between("after", 0, 5);
  return {absl::StrCat("gpu-stall w", worker, " after ", after, "ms for ",
                       random.Between("length", 1, 500), "ms")};
}

REPRISE_SCENARIO(
    gpu_parameter_server,
    {.description = "clients push and pull parameters of a server on a GPU",
     .workers = 4,
     .body = GpuParameterServer,
     .faults = SomeStall,
     .probes = {"saw what another one pushed"},
     .fault_kinds = {"gpu-stall"},
     .gpus_per_host = 2,
     .hosts = {0, 0, 1, 1}});

}  // namespace
}  // namespace reprise::scenarios
