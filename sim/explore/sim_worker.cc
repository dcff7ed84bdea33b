#include "sim/explore/sim_worker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/transport/cuda/xth_offers.h"
#include "sim/interpose/node_runtime.h"
#include "sim/network/topology.h"
#include "sim/world/race_annotations.h"
#include "sim/world/sim_runtime.h"

namespace reprise {
namespace {

NetworkOptions ToNetworkOptions(const SimRunOptions& options) {
  NetworkOptions network = options.network;
  if (options.scenario->bytes_per_second > 0) {
    network.bytes_per_second = options.scenario->bytes_per_second;
  }
  if (network.hosts.empty()) network.hosts = options.scenario->hosts;
  // `RunSimulated` has checked it.
  const int workers = NumWorkers(*options.scenario, options.params);
  ApplyTopology(options.scenario->topology, workers, network).IgnoreError();
  ApplyTopology(TopologyOf(options), workers, network).IgnoreError();
  return network;
}

SimGpuOptions ToGpuOptions(const Scenario& scenario) {
  SimGpuOptions gpus;
  gpus.gpus_per_host = scenario.gpus_per_host;
  return gpus;
}

WorldOptions ToWorldOptions(const SimRunOptions& options) {
  WorldOptions world;
  world.seed = options.seed;
  world.schedule = options.schedule;
  world.recording = options.recording;
  world.keep_trace = options.keep_trace;
  world.max_time_ns = absl::ToInt64Nanoseconds(options.scenario->max_time);
  if (options.max_time_ns > 0) {
    world.max_time_ns = std::min(world.max_time_ns, options.max_time_ns);
  }
  if (options.max_points > 0) {
    world.max_points = std::min(world.max_points, options.max_points);
  }
  world.stack_bytes = options.stack_bytes;
  return world;
}

// As the channels for GPUs say it to each other: no two processes of a host
// have the same.
ProcessIdentity IdentityOf(const Node& node, int host) {
  constexpr int64_t kMaxRestarts = 1000;
  return {.boot_id = absl::StrCat("simulated-host-", host),
          .pid_namespace = "1_1",
          .ipc_namespace = "1_1",
          .pid = (node.rank + 1) * kMaxRestarts + node.incarnation};
}

std::unique_ptr<Runtime> MakeRuntime(const SimCluster& cluster, Node& node) {
  if (cluster.options.runtime == RuntimeKind::kReal) {
    return MakeRealRuntimeOn(*cluster.world, node);
  }
  return std::make_unique<SimRuntime>(*cluster.world, node);
}

}  // namespace

SimCluster::SimCluster(const SimRunOptions& options)
    : options(options),
      network_options(ToNetworkOptions(options)),
      world(std::make_unique<World>(ToWorldOptions(options))),
      network(*world, network_options),
      store(*world),
      disks(*world),
      gpus(*world, ToGpuOptions(*options.scenario)),
      process_memories(*world) {}

int SimCluster::num_members() const {
  return NumWorkers(*options.scenario, options.params) -
         options.scenario->clients;
}

absl::StatusOr<std::string> SimCluster::DirectoryOf(int32_t rank) {
  if (!files) {
    absl::StatusOr<ScratchDirectory> made = ScratchDirectory::Make();
    if (!made.ok()) return made.status();
    files.emplace(*std::move(made));
  }
  return files->MakeWithin(absl::StrCat("w", rank));
}

std::string SimCluster::LeaveFiles(bool keep) {
  if (!files) return "";
  if (keep) {
    // A copy, as the path itself is in the arena.
    const std::string path = std::move(*files).Keep();
    return std::string(path.data(), path.size());
  }
  files->Remove();
  return "";
}

SimWorker::SimWorker(SimCluster& cluster, Node& node, AgentOptions options)
    : Worker(std::move(options), node.incarnation, cluster.options.seed,
             cluster.options.params),
      cluster_(cluster),
      node_(node),
      runtime_(MakeRuntime(cluster, node)),
      gpu_driver_(ConnectGpus()),
      transports_(cluster.network, node, GpuChannels(), Cma()),
      store_(cluster.store.Connect(node)),
      disk_(cluster.disks.Connect(node)),
      observer_(
          [this](const EventDetails& details) {
            cluster_.world->Record(&node_, details);
          },
          [&node](absl::Time time) { return node.ToNanoseconds(time); },
          /*with_elements=*/gpu_driver_ == nullptr) {
  if (gpu_driver_ == nullptr) return;
  devices_ = std::make_unique<Devices>(*runtime_, gpu_driver_.get());
}

std::shared_ptr<GpuDriver> SimWorker::ConnectGpus() {
  if (cluster_.options.scenario->gpus_per_host == 0) return nullptr;
  return cluster_.gpus.Connect(node_,
                               cluster_.network_options.HostOf(node_.rank));
}

std::optional<GpuChannelEnvironment> SimWorker::GpuChannels() {
  if (gpu_driver_ == nullptr) return std::nullopt;
  const int host = cluster_.network_options.HostOf(node_.rank);
  return GpuChannelEnvironment{
      .driver = gpu_driver_.get(),
      .runtime = runtime_.get(),
      .shared_memory = &cluster_.shared_memories.Connect(node_, host),
      .process = IdentityOf(node_, host),
      .xth_offers = std::make_shared<XthOffers>(*runtime_)};
}

CmaEnvironment SimWorker::Cma() {
  const int host = cluster_.network_options.HostOf(node_.rank);
  const ProcessIdentity identity = IdentityOf(node_, host);
  return {.runtime = runtime_.get(),
          .memory = &cluster_.process_memories.Connect(
              node_, host, static_cast<pid_t>(identity.pid)),
          .domain = absl::StrCat("cma:", identity.boot_id)};
}

Environment SimWorker::environment() {
  return {runtime_.get(), store_, &transports_, &observer_, devices_.get()};
}

std::string SimWorker::scratch_directory() {
  absl::StatusOr<std::string> path = cluster_.DirectoryOf(node_.rank);
  CheckOk(path.status(), "scratch-directory");
  return path.ok() ? *std::move(path) : "";
}

void SimWorker::Note(std::string_view text) {
  cluster_.world->Record(&node_, {.kind = EventKind::kNote, .text = text});
}

bool SimWorker::Check(bool holds, std::string_view rule,
                      std::string_view detail) {
  if (holds) return true;
  const InSimulator in;
  const std::string whole =
      absl::StrCat(name(), ": ", std::string(rule), ": ", std::string(detail));
  World& world = *cluster_.world;
  world.Record(&node_, {.kind = EventKind::kCheckFailed, .text = whole});
  world.Fail(rule, absl::StrCat(name(), ": ", std::string(detail)));
  return false;
}

void SimWorker::Reached(std::string_view probe) {
  const InSimulator in;
  cluster_.world->Record(&node_, {.kind = EventKind::kProbe, .text = probe});
}

}  // namespace reprise
