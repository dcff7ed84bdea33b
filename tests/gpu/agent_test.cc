// Agents that send each other tensors on a GPU, in two processes and in one:
// every channel, all dtypes, views, sizes, streams, device maps and errors.
//
//   agent_test [--only=cuda_ipc] [--fake]

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/runtime/runtime.h"
#include "agent/store/open_store.h"
#include "tests/gpu/agent_cases.h"
#include "tests/gpu/agent_end.h"
#include "tests/gpu/child.h"
#include "tests/gpu/flags.h"
#include "tests/gpu/pipe_end.h"
#include "tests/gpu/results.h"

namespace reprise::gpu {
namespace {

int ServeMain(Gpu& gpu, const GroupSpec& spec) {
  DieWithParent();
  auto agent = StartAgent(gpu, spec, kServer, nullptr, MakeHandler(gpu));
  if (!agent.ok()) {
    std::fprintf(stderr, "the server: %s\n", agent.status().ToString().c_str());
    return kFailed;
  }
  WaitForEndOfInput();
  const absl::Status status =
      (*agent)->Shutdown(RealRuntime().Now() + absl::Seconds(10));
  if (status.ok()) return kPassed;
  std::fprintf(stderr, "the server: %s\n", status.ToString().c_str());
  return kFailed;
}

struct Group {
  GroupSpec spec;
  bool is_one_process = false;
  AgentCases cases = AgentCases::kTensors;

  std::string ToString() const {
    return absl::StrCat("agents, ", spec.channel, " over ", spec.transport,
                        is_one_process ? ", one process" : ", two processes");
  }
};

// The two ways that matter most are tried over TCP, too.
std::vector<Group> AllGroups() {
  return {
      {{"cuda_xth"}, true},
      {{"cuda_direct"}},
      {{"cuda_direct", "uv"}},
      {{"cuda_ipc"}},
      {{"cuda_ipc", "uv"}},
      {{"cuda_host"}},
      {{"cuda_host"}, true},
      {{"cuda_basic"}},
      {{"cuda_basic", "uv"}},
      {{"cuda_basic"}, true},
      {{"cuda_basic"}, false, AgentCases::kMaps},
      {{"cuda_basic"}, true, AgentCases::kMaps},
      {{"cuda_direct"}, false, AgentCases::kErrors},
      {{"cuda_host"}, false, AgentCases::kErrors},
  };
}

// A child, or an agent of this process.
struct Server {
  std::unique_ptr<Child> child;
  std::unique_ptr<Agent> agent;
};

void RunGroup(Gpu& gpu, const Group& group, Results& results) {
  const std::string name = group.ToString();
  const StoreDirectory directory;
  GroupSpec spec = group.spec;
  spec.store = directory.url();
  Server server;
  std::unique_ptr<Thread> starting;
  absl::Status started;
  if (group.is_one_process) {
    // Each waits for the other at its start.
    starting = RealRuntime().StartThread("server", [&] {
      auto agent = StartAgent(gpu, spec, kServer, nullptr, MakeHandler(gpu));
      started = agent.status();
      if (agent.ok()) server.agent = *std::move(agent);
    });
  } else {
    std::vector<std::string> arguments = {
        "--serve", absl::StrCat("--only=", spec.channel),
        absl::StrCat("--transport=", spec.transport),
        absl::StrCat("--store=", spec.store)};
    if (gpu.is_fake()) arguments.push_back("--fake");
    auto child = Child::Start(std::move(arguments));
    if (!child.ok()) return results.Check(name, child.status());
    server.child = *std::move(child);
  }
  auto client = StartAgent(gpu, spec, kClient, nullptr, MakeHandler(gpu),
                           [&](AgentOptions& options) {
                             if (group.cases == AgentCases::kMaps)
                               options.device_maps.clear();
                           });
  if (starting != nullptr) starting->Join();
  if (!client.ok()) return results.Check(name, client.status());
  if (!started.ok()) return results.Check(name, started);

  RunCases({gpu, **client, results, name, server.child == nullptr},
           group.cases);
  const absl::Time soon = RealRuntime().Now() + absl::Seconds(20);
  results.Check(name + ": the client shuts down", (*client)->Shutdown(soon));
  if (server.child != nullptr) {
    results.Check(name + ": the server shuts down",
                  server.child->End(absl::Seconds(20)));
  } else {
    results.Check(name + ": the server shuts down",
                  server.agent->Shutdown(soon));
  }
}

int Main(int argc, char** argv) {
  const Flags flags(argc, argv,
                    {"--only", "--fake", "--serve", "--transport", "--store"});
  if (!flags.is_valid()) return kWrongUsage;
  auto gpu = Gpu::Find(flags.Has("--fake"));
  if (!gpu.ok()) return SkipAll(std::string(gpu.status().message()));
  const std::string only = flags.Get("--only");
  if (flags.Has("--serve")) {
    return ServeMain(**gpu,
                     {only, flags.Get("--transport"), flags.Get("--store")});
  }
  Results results;
  for (const Group& group : AllGroups()) {
    if (!only.empty() && only != group.spec.channel) continue;
    const auto works = PipeContext::Make(
        {group.spec.channel, group.spec.transport}, (*gpu)->devices());
    if (works.ok()) {
      RunGroup(**gpu, group, results);
    } else {
      results.Skip(group.ToString(), std::string(works.status().message()));
    }
  }
  return results.Finish();
}

}  // namespace
}  // namespace reprise::gpu

int main(int argc, char** argv) { return reprise::gpu::Main(argc, argv); }
