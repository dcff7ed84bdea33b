// What the channel cma is built on: everything that is another thing in a
// simulated world.

#ifndef REPRISE_AGENT_TRANSPORT_CMA_ENVIRONMENT_H_
#define REPRISE_AGENT_TRANSPORT_CMA_ENVIRONMENT_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "agent/runtime/runtime.h"
#include "tensorpipe/common/error.h"

namespace reprise {

// The memory of the processes of this host. Thread-safe.
class ProcessMemory {
 public:
  virtual ~ProcessMemory() = default;

  // How other processes name this one.
  virtual pid_t OwnPid() = 0;

  // Copies the `size` bytes at the address `from` of the process `pid` to
  // `into`, or fails. Of two calls of a thread, the second reads later.
  virtual tensorpipe::Error Read(pid_t pid, uint64_t from, void* into,
                                 size_t size) = 0;
};

// What is pointed to must outlive the contexts that are made with it.
struct CmaEnvironment {
  Runtime* runtime = nullptr;  // of the threads that copy
  ProcessMemory* memory = nullptr;
  // Processes with the same one can read each other's memory. Or why no other
  // process could read this one's.
  absl::StatusOr<std::string> domain;
};

// OS threads, process_vm_readv, and `CmaDomain`.
CmaEnvironment RealCmaEnvironment();

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CMA_ENVIRONMENT_H_
