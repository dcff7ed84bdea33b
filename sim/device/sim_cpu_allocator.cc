#include "sim/device/sim_cpu_allocator.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/device/device.h"
#include "sim/world/race_annotations.h"

namespace reprise {

absl::StatusOr<std::shared_ptr<Storage>> SimCpuAllocator::Allocate(
    size_t num_bytes) {
  {
    const InSimulator in;
    if (node_.tensor_memory.Strikes(node_.world->now_ns())) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot allocate ", num_bytes, " bytes of CPU memory"));
    }
  }
  return AllocateCpu(num_bytes);
}

}  // namespace reprise
