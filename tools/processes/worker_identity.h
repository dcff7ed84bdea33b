// Finds out the rank, the world size and the store of a worker on a machine of
// its own, from its flags and from the environment that torchrun and Slurm set.
// Flags come first, then RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, then
// SLURM_PROCID and SLURM_NTASKS.

#ifndef REPRISE_TOOLS_PROCESSES_WORKER_IDENTITY_H_
#define REPRISE_TOOLS_PROCESSES_WORKER_IDENTITY_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "tools/processes/environ.h"

namespace reprise {

struct IdentityFlags {
  std::string name;
  std::string store_url;
  std::optional<int> rank;
  std::optional<int> world_size;
  std::string run_id;
};

struct WorkerIdentity {
  int rank = 0;
  int world_size = 1;
  std::string store_url;
  std::string run_id;
  bool is_coordinator() const { return rank == 0; }
};

// INVALID_ARGUMENT lists everything that is missing or contradictory.
// `scenario_workers` is the size of the world if nothing else says it.
absl::StatusOr<WorkerIdentity> ResolveIdentity(const IdentityFlags& flags,
                                               int scenario_workers,
                                               const Environ& environ);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_WORKER_IDENTITY_H_
