// Who a worker on a machine of its own is: by its flags, and by what torchrun
// and Slurm put into the environment. Flags win, then RANK, WORLD_SIZE,
// MASTER_ADDR and MASTER_PORT, then SLURM_PROCID and SLURM_NTASKS.

#ifndef REPRISE_TOOLS_PROCESSES_NODE_IDENTITY_H_
#define REPRISE_TOOLS_PROCESSES_NODE_IDENTITY_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace reprise {

struct NodeFlags {
  std::string name;
  std::string store_url;
  std::optional<int> rank;
  std::optional<int> world_size;
  std::string run_id;
};

struct NodeIdentity {
  int rank = 0;
  int world_size = 1;
  std::string store_url;
  std::string run_id;
  bool is_coordinator() const { return rank == 0; }
};

// Null when there is no such variable.
using Environ = std::function<const char*(const char* name)>;

// INVALID_ARGUMENT lists everything that is missing or contradicts itself.
// `scenario_workers`: the size of the world when nothing says another.
absl::StatusOr<NodeIdentity> ResolveIdentity(const NodeFlags& flags,
                                             int scenario_workers,
                                             const Environ& environ);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_NODE_IDENTITY_H_
