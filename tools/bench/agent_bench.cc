// What a call of the whole agent costs between two processes on one machine,
// over a transport and with its default channels.
//
//   call     64 bytes there and back; as many at a time as the argument says.
//            `cpu_us` is the CPU time of a call, of both processes together
//   tensor   a tensor of so many bytes one way, which is released on arrival;
//            two at a time
//
// Compare by ratios, in one run. The program starts itself a second time for
// the server.

#include <benchmark/benchmark.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "agent/runtime/runtime.h"
#include "agent/store/open_store.h"
#include "agent/transport/transports.h"
#include "sim/scenario/scratch_directory.h"

namespace reprise {
namespace {

// A benchmark that cannot go on ends the program, and says why.
void Require(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "agent_bench: %s\n", status.ToString().c_str());
  std::exit(1);
}

constexpr WorkerId kServer = 0;
constexpr WorkerId kClient = 1;

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(1); }

double CpuSeconds(int who) {
  rusage usage;
  getrusage(who, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) +
           1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Replies with the payload it was sent; with the CPU time of this process, in
// microseconds, to an empty one. Tensors are released.
void Serve(Message request, const RequestInfo&, Reply reply) {
  Message answer;
  answer.type = MessageType::kScriptRet;
  answer.payload = request.payload.empty()
                       ? absl::StrCat(CpuSeconds(RUSAGE_SELF) * 1e6)
                       : std::move(request.payload);
  request = Message();
  reply(std::move(answer));
}

std::unique_ptr<Agent> StartAgent(WorkerId id, const std::string& folder,
                                  const std::string& transport) {
  auto store = OpenStore(RealRuntime(), "file://" + folder);
  Require(store.status());
  AgentOptions options;
  options.name = id == kServer ? "server" : "client";
  options.id = id;
  options.world_size = 2;
  options.transport.transports = {transport};
  options.transport.bind_address = "127.0.0.1";
  Environment environment;
  environment.runtime = &RealRuntime();
  environment.store = *std::move(store);
  environment.transports = &RealTransports();
  auto agent = Agent::Start(environment, options, Serve, Later());
  Require(agent.status());
  return *std::move(agent);
}

int ServerMain(const std::string& folder, const std::string& transport) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const auto agent = StartAgent(kServer, folder, transport);
  Require(agent->JoinForShutdown(absl::InfiniteFuture()));
  return agent->Shutdown(Later()).ok() ? 0 : 1;
}

// A server in a process of its own, and the agent that calls it.
class Pair {
 public:
  explicit Pair(const std::string& transport) {
    absl::StatusOr<ScratchDirectory> folder = ScratchDirectory::Make();
    Require(folder.status());
    folder_.emplace(*std::move(folder));
    child_ = fork();
    if (child_ == 0) {
      execl("/proc/self/exe", "agent_bench", "--serve", folder_->path().c_str(),
            transport.c_str(), nullptr);
      _exit(1);
    }
    client = StartAgent(kClient, folder_->path(), transport);
  }
  ~Pair() {
    Require(client->JoinForShutdown(Later()));
    Require(client->Shutdown(Later()));
    waitpid(child_, nullptr, 0);
  }

  double CpuMicroseconds() {
    Message request;
    request.type = MessageType::kScriptCall;
    const Future reply = client->Send(kServer, std::move(request));
    reply.Wait();
    Require(reply.result().status());
    double server = 0;
    if (!absl::SimpleAtod(reply.result()->payload, &server)) {
      Require(absl::InternalError(reply.result()->payload));
    }
    return server + CpuSeconds(RUSAGE_SELF) * 1e6;
  }

  // Makes `count` calls with what `request` gives, so many of them at a time.
  template <typename MakeRequest>
  void Call(int count, int in_flight, MakeRequest request) {
    to_start_ = count - in_flight;
    to_come_ = count;
    for (int i = 0; i < in_flight; ++i) Start(request);
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](int* left) { return *left == 0; }, &to_come_));
  }

  std::unique_ptr<Agent> client;

 private:
  template <typename MakeRequest>
  void Start(MakeRequest request) {
    client->Send(kServer, request())
        .Then([this, request](const Future::Result& result) {
          Require(result.status());
          bool more = false;
          {
            absl::MutexLock lock(&mutex_);
            --to_come_;
            more = to_start_ > 0 && --to_start_ >= 0;
          }
          if (more) Start(request);
        });
  }

  std::optional<ScratchDirectory> folder_;  // of the store
  pid_t child_ = 0;
  absl::Mutex mutex_;
  int to_start_ = 0;
  int to_come_ = 0;
};

void BM_Call(benchmark::State& state, const std::string& transport) {
  constexpr int kCalls = 2000;
  Pair pair(transport);
  const auto request = [] {
    Message message;
    message.type = MessageType::kScriptCall;
    message.payload = std::string(64, 'x');
    return message;
  };
  const int in_flight = static_cast<int>(state.range(0));
  pair.Call(kCalls, in_flight, request);
  const double before = pair.CpuMicroseconds();
  for (auto _ : state) pair.Call(kCalls, in_flight, request);
  const double cpu = pair.CpuMicroseconds() - before;
  state.SetItemsProcessed(state.iterations() * kCalls);
  state.counters["cpu_us"] =
      benchmark::Counter(cpu / static_cast<double>(state.items_processed()));
}

void BM_Tensor(benchmark::State& state, const std::string& transport) {
  Pair pair(transport);
  const int64_t bytes = state.range(0);
  const int calls = bytes < (1 << 24) ? 64 : 4;
  const auto tensor = MakeTensor(DType::kUInt8, {bytes});
  Require(tensor.status());
  const auto request = [&tensor] {
    Message message;
    message.type = MessageType::kScriptCall;
    message.payload = "x";
    message.tensors = {*tensor};
    return message;
  };
  pair.Call(calls, 2, request);
  for (auto _ : state) pair.Call(calls, 2, request);
  state.SetBytesProcessed(state.iterations() * calls * bytes);
}

void Calls(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(1)->Arg(64)->UseRealTime();
}
void Tensors(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(1 << 20)->Arg(1 << 24)->Arg(1 << 28)->UseRealTime();
}

BENCHMARK_CAPTURE(BM_Call, shm, "shm")->Apply(Calls);
BENCHMARK_CAPTURE(BM_Call, uv, "uv")->Apply(Calls);
BENCHMARK_CAPTURE(BM_Tensor, shm, "shm")->Apply(Tensors);
BENCHMARK_CAPTURE(BM_Tensor, uv, "uv")->Apply(Tensors);

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) {
  if (argc == 4 && std::string_view(argv[1]) == "--serve") {
    return reprise::ServerMain(argv[2], argv[3]);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
