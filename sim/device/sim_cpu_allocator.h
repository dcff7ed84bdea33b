// The memory of tensors on CPUs that a worker receives, which may run out: the
// fault `no-tensor-memory`.

#ifndef REPRISE_SIM_DEVICE_SIM_CPU_ALLOCATOR_H_
#define REPRISE_SIM_DEVICE_SIM_CPU_ALLOCATOR_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "agent/device/caching_allocator.h"
#include "sim/world/world.h"

namespace reprise {

// Handed to an agent as `AgentOptions::allocator`, in runs whose plan has the
// fault. Used on the node's fibers only; must not outlive the node's world.
class SimCpuAllocator final : public CpuAllocator {
 public:
  explicit SimCpuAllocator(Node& node) : node_(node) {}

  // While there is none, with the error of the agent's own allocator.
  absl::StatusOr<std::shared_ptr<Storage>> Allocate(size_t num_bytes) override;

 private:
  Node& node_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_DEVICE_SIM_CPU_ALLOCATOR_H_
