// The memory that the processes of one simulated host share.

#ifndef REPRISE_SIM_DEVICE_SIM_SHARED_MEMORY_H_
#define REPRISE_SIM_DEVICE_SIM_SHARED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "agent/transport/cuda/shared_memory.h"
#include "sim/world/world.h"

namespace reprise {

// Of all hosts of a world. It is memory of this process, which every process
// that opens it sees at the same address. That of a process that crashed stays
// with those that have it open, and cannot be opened any more. It is used on
// the world's OS thread only, and must outlive the segments.
class SimSharedMemories {
 public:
  SimSharedMemories();
  SimSharedMemories(const SimSharedMemories&) = delete;
  SimSharedMemories& operator=(const SimSharedMemories&) = delete;
  ~SimSharedMemories();

  // What `node` sees, which runs on the host with this number. To be called
  // once for each node. Lives as long as this object.
  SharedMemory& Connect(const Node& node, int host);

 private:
  class Process;
  class Segment;
  struct Pages;

  std::map<std::string, std::unique_ptr<Process>> processes_;  // by label
  // By host and name: those whose maker has them still.
  std::map<std::pair<int, std::string>, std::shared_ptr<Pages>> pages_;
  uint64_t num_made_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_SIM_DEVICE_SIM_SHARED_MEMORY_H_
