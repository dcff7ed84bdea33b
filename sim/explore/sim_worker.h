// One incarnation of one worker of a simulated run, and what the workers of a
// run share.
//
// Not thread-safe, as worlds are not.

#ifndef REPRISE_SIM_EXPLORE_SIM_WORKER_H_
#define REPRISE_SIM_EXPLORE_SIM_WORKER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/device/devices.h"
#include "agent/runtime/runtime.h"
#include "agent/transport/cma/environment.h"
#include "agent/transport/cuda/environment.h"
#include "sim/device/sim_gpus.h"
#include "sim/device/sim_shared_memory.h"
#include "sim/disk/sim_disk.h"
#include "sim/explore/sim_run.h"
#include "sim/network/network.h"
#include "sim/network/sim_process_memory.h"
#include "sim/scenario/scenario.h"
#include "sim/scenario/scratch_directory.h"
#include "sim/store/sim_store.h"
#include "sim/trace/trace_observer.h"
#include "sim/world/world.h"

namespace reprise {

// The time, the network, the store, the GPUs and the files of a run.
struct SimCluster {
  // The options must outlive it.
  explicit SimCluster(const SimRunOptions& options);

  // Without the clients.
  int num_members() const;
  // The scratch directory of a worker, which is made at the first call.
  absl::StatusOr<std::string> DirectoryOf(int32_t rank);
  // Removes the workers' files, or returns where they are.
  std::string LeaveFiles(bool keep);

  const SimRunOptions& options;
  const NetworkOptions network_options;  // with the host of each worker
  const std::unique_ptr<World> world;
  Network network;
  SimStoreServer store;
  SimDisks disks;
  SimGpus gpus;
  SimSharedMemories shared_memories;
  SimProcessMemories process_memories;
  std::set<std::string> probes;  // that were reached
  std::optional<ScratchDirectory> files;
};

// Must not outlive the cluster. Of a node that crashed it is never destroyed,
// as the abandoned agent refers to it.
class SimWorker : public Worker {
 public:
  SimWorker(SimCluster& cluster, Node& node, AgentOptions options);

  Environment environment() override;
  std::string scratch_directory() override;
  Disk& disk() override { return *disk_; }
  void Note(std::string_view text) override;
  bool Check(bool holds, std::string_view rule,
             std::string_view detail) override;
  void Reached(std::string_view probe) override;

  // What the body does last. To be called on a thread of the node's, since it
  // waits for the GPUs.
  void End() { devices_ = nullptr; }
  void HasEnded() { has_ended_ = true; }
  // Whether a fault can hit it.
  bool is_up() const { return node_.alive && !has_ended_; }

  Node& node() { return node_; }

 private:
  std::shared_ptr<GpuDriver> ConnectGpus();
  std::optional<GpuChannelEnvironment> GpuChannels();
  CmaEnvironment Cma();

  SimCluster& cluster_;
  Node& node_;
  const std::unique_ptr<Runtime> runtime_;
  const std::shared_ptr<GpuDriver> gpu_driver_;  // null: no GPUs
  SimTransports transports_;
  std::shared_ptr<Store> store_;
  const std::unique_ptr<Disk> disk_;
  TraceObserver observer_;
  std::unique_ptr<Devices> devices_;  // null: no GPUs
  bool has_ended_ = false;
};

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_SIM_WORKER_H_
