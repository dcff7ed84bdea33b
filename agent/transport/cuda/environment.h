// What the channels for GPUs are built on: everything that is another thing in
// a simulated world.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_ENVIRONMENT_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_ENVIRONMENT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "agent/device/driver.h"
#include "agent/runtime/runtime.h"
#include "agent/transport/cuda/shared_memory.h"

namespace reprise {

// Which process of which host this is, as TensorPipe's channels say it. The
// namespaces are "st_dev_st_ino" of /proc/self/ns/..., in hex.
struct ProcessIdentity {
  std::string boot_id;
  std::string pid_namespace;
  std::string ipc_namespace;
  int64_t pid = 0;
};

class XthOffers;

// UNAVAILABLE, with the reason. Does not throw.
absl::StatusOr<ProcessIdentity> ThisProcess();

// What is pointed to must outlive the contexts that are made with it and all
// that they have in flight.
struct GpuChannelEnvironment {
  GpuDriver* driver = nullptr;
  Runtime* runtime = nullptr;
  SharedMemory* shared_memory = nullptr;
  ProcessIdentity process;
  // Of the process, where that is not the process that all of this program is.
  // Null: those that this program has for the driver.
  std::shared_ptr<XthOffers> xth_offers = nullptr;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_ENVIRONMENT_H_
