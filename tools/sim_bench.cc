// What a call costs in the simulator: the whole agent against the bare
// TensorPipe core, over the same simulated transport, 64 bytes there and back.
// Compare the two by their ratio, in one run.

#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "agent/agent.h"
#include "sim/arena.h"
#include "sim/network.h"
#include "sim/scenario.h"
#include "sim/sim_runtime.h"
#include "sim/world.h"
#include "tensorpipe/tensorpipe.h"
#include "tools/command/sim_run.h"

namespace reprise {
namespace {

constexpr int kCalls = 2000;
constexpr size_t kPayloadBytes = 64;

ScheduleOptions ScheduleOf(const benchmark::State& state) {
  ScheduleOptions schedule;
  schedule.policy = static_cast<Policy>(state.range(0));
  return schedule;
}

// --- The bare core ----------------------------------------------------------

std::shared_ptr<tensorpipe::Context> MakeContext(Network& network, Node& node) {
  auto context = std::make_shared<tensorpipe::Context>(
      tensorpipe::ContextOptions().name(node.name));
  TransportSet set = network.MakeTransports(node, {});
  for (auto& entry : set.transports) {
    context->registerTransport(entry.priority, entry.name, entry.context);
  }
  for (auto& entry : set.channels) {
    context->registerChannel(entry.priority, entry.name, entry.context);
  }
  return context;
}

// One end of an echo: reads a message, then does `then`.
struct End {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  char in[kPayloadBytes];
  char out[kPayloadBytes] = {};

  void Write() {
    tensorpipe::Message message;
    message.payloads.push_back({out, kPayloadBytes, ""});
    pipe->write(std::move(message), [](const tensorpipe::Error&) {});
  }
  void Read(std::function<void()> then) {
    pipe->readDescriptor(
        [this, then = std::move(then)](const tensorpipe::Error& error,
                                       const tensorpipe::Descriptor&) {
          if (error) return;
          tensorpipe::Allocation allocation;
          allocation.payloads.push_back({in});
          pipe->read(std::move(allocation),
                     [then](const tensorpipe::Error& failed) {
                       if (!failed) then();
                     });
        });
  }
};

void RunBareCore(const ScheduleOptions& schedule) {
  ArenaScope arena;
  WorldOptions options;
  options.schedule = schedule;
  World world(options);
  Network network(world, {});
  Node& server_node = world.AddNode(0, "w0");
  Node& client_node = world.AddNode(1, "w1");
  auto server = MakeContext(network, server_node);
  auto client = MakeContext(network, client_node);
  End server_end;
  End client_end;
  std::shared_ptr<tensorpipe::Listener> listener;
  int left = kCalls;
  std::function<void()> serve = [&] {
    server_end.Write();
    server_end.Read(serve);
  };
  std::function<void()> finish = [&] {
    if (--left == 0) return;
    client_end.Write();
    client_end.Read(finish);
  };
  world.scheduler().Start(server_node, "main", [&] {
    listener = server->listen({"sim://"});
    listener->accept(
        [&](const tensorpipe::Error&, std::shared_ptr<tensorpipe::Pipe> pipe) {
          server_end.pipe = std::move(pipe);
          server_end.Read(serve);
        });
    world.scheduler().Start(client_node, "main", [&] {
      client_end.pipe = client->connect(listener->url("sim"));
      client_end.Write();
      client_end.Read(finish);
    });
  });
  world.Run();
  if (left != 0) std::abort();
  client_end.pipe->close();
  server_end.pipe->close();
  // Contexts close on a fiber, as their transport's thread has to call back.
  // The arena takes what is left.
  new auto(client);
  new auto(server);
  new auto(listener);
  new auto(client_end.pipe);
  new auto(server_end.pipe);
  world.scheduler().ReturnStacks();
}

void BM_BareCore(benchmark::State& state) {
  for (auto _ : state) RunBareCore(ScheduleOf(state));
  state.SetItemsProcessed(state.iterations() * kCalls);
}

// --- The agent --------------------------------------------------------------

void CallBody(Worker& worker) {
  auto agent =
      Agent::Start(worker.environment(), worker.options(),
                   Blocking([](Message message,
                               const RequestInfo&) -> absl::StatusOr<Message> {
                     message.type = MessageType::kScriptRet;
                     return message;
                   }),
                   worker.In(absl::Seconds(30)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  if (worker.rank() == 1) {
    for (int i = 0; i < kCalls; ++i) {
      Message request;
      request.type = MessageType::kScriptCall;
      request.payload.assign(kPayloadBytes, 'x');
      Future reply = (*agent)->Send(WorkerId{0}, std::move(request));
      if (!worker.CheckOk(reply.status(), "call")) return;
    }
  }
  worker.CheckOk((*agent)->JoinForShutdown(worker.In(absl::Seconds(60))),
                 "join");
  worker.CheckOk((*agent)->Shutdown(worker.In(absl::Seconds(60))), "shutdown");
}

void BM_Agent(benchmark::State& state) {
  Scenario scenario;
  scenario.name = "bench";
  scenario.workers = 2;
  scenario.body = CallBody;
  SimRunOptions options;
  options.scenario = &scenario;
  options.schedule = ScheduleOf(state);
  for (auto _ : state) {
    auto result = RunSimulated(options);
    if (!result.ok() || !result->held()) {
      state.SkipWithError("the run did not hold");
      break;
    }
  }
  state.SetItemsProcessed(state.iterations() * kCalls);
}

// 0 cooperative, 1 random, 2 pct.
BENCHMARK(BM_BareCore)->ArgName("policy")->DenseRange(0, 2);
BENCHMARK(BM_Agent)->ArgName("policy")->DenseRange(0, 2);

}  // namespace
}  // namespace reprise

BENCHMARK_MAIN();
