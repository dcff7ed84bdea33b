// What a call costs in the simulator: the whole agent against the bare
// TensorPipe core, over the same simulated transport, 64 bytes there and back.
// Compare by ratios, in one run.
//
//   BM_BareCore/64B      one payload of 64 bytes
//   BM_BareCore/message  the four payloads that the wire format makes of it
//   BM_Agent             a call, with trace and invariants as in an exploration

#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/agent.h"
#include "sim/explore/sim_run.h"
#include "sim/network/network.h"
#include "sim/scenario/scenario.h"
#include "sim/world/arena.h"
#include "sim/world/sim_runtime.h"
#include "sim/world/world.h"
#include "tensorpipe/tensorpipe.h"

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

// What one message carries, in bytes.
using Payloads = std::vector<size_t>;

// One end of an echo: reads a message, then does `then`.
struct End {
  explicit End(const Payloads& sizes)
      : sizes(sizes), in(sizes.size()), out(sizes.size()) {
    for (size_t i = 0; i < sizes.size(); ++i) {
      in[i].resize(sizes[i]);
      out[i].resize(sizes[i]);
    }
  }

  void Write() {
    tensorpipe::Message message;
    for (std::string& bytes : out) {
      message.payloads.push_back({bytes.data(), bytes.size(), ""});
    }
    pipe->write(std::move(message), [](const tensorpipe::Error&) {});
  }
  void Read(std::function<void()> then) {
    pipe->readDescriptor(
        [this, then = std::move(then)](const tensorpipe::Error& error,
                                       const tensorpipe::Descriptor&) {
          if (error) return;
          tensorpipe::Allocation allocation;
          for (std::string& bytes : in) {
            allocation.payloads.push_back({bytes.data()});
          }
          pipe->read(std::move(allocation),
                     [then](const tensorpipe::Error& failed) {
                       if (!failed) then();
                     });
        });
  }

  std::shared_ptr<tensorpipe::Pipe> pipe;
  const Payloads sizes;
  std::vector<std::string> in;
  std::vector<std::string> out;
};

void RunBareCore(const ScheduleOptions& schedule, const Payloads& sizes) {
  ArenaScope arena;
  WorldOptions options;
  options.schedule = schedule;
  World world(options);
  Network network(world, {});
  Node& server_node = world.AddNode(0, "w0");
  Node& client_node = world.AddNode(1, "w1");
  auto server = MakeContext(network, server_node);
  auto client = MakeContext(network, client_node);
  End server_end(sizes);
  End client_end(sizes);
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

void BM_BareCore(benchmark::State& state, const Payloads& sizes) {
  for (auto _ : state) RunBareCore(ScheduleOf(state), sizes);
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
BENCHMARK_CAPTURE(BM_BareCore, 64B, Payloads{kPayloadBytes})
    ->ArgName("policy")
    ->DenseRange(0, 2);
BENCHMARK_CAPTURE(BM_BareCore, message, Payloads{4, 8, kPayloadBytes, 47})
    ->ArgName("policy")
    ->DenseRange(0, 2);
BENCHMARK(BM_Agent)->ArgName("policy")->DenseRange(0, 2);

}  // namespace
}  // namespace reprise

BENCHMARK_MAIN();
