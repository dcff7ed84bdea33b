// The memory of the processes of a world, as the channel cma reads it.
//
// All processes of a world lie in this one, so a reader gets what the memory of
// the other worker holds at the virtual time of the copy: other bytes, if its
// owner has let go of it meanwhile. As on Linux, a process of another host or
// one that has died cannot be read (ESRCH), nor can memory that is not mapped
// (EFAULT); one that is paused can.

#ifndef REPRISE_SIM_NETWORK_SIM_PROCESS_MEMORY_H_
#define REPRISE_SIM_NETWORK_SIM_PROCESS_MEMORY_H_

#include <sys/types.h>

#include <map>
#include <memory>

#include "agent/transport/cma/environment.h"
#include "sim/world/world.h"

namespace reprise {

// Of all processes of a world, which must outlive it. Not thread-safe: it is
// used by whoever runs in the world.
class SimProcessMemories {
 public:
  explicit SimProcessMemories(World& world);
  SimProcessMemories(const SimProcessMemories&) = delete;
  SimProcessMemories& operator=(const SimProcessMemories&) = delete;
  ~SimProcessMemories();

  // What the process `pid` sees, which is the incarnation `node` of a worker on
  // the host with this number. To be called once for each. Lives as long as
  // this object.
  //
  // A copy takes 1 to 20 us, and a nanosecond for every eight bytes; one in 20
  // loses its processor for up to 5 ms before it. The time is drawn at the site
  // "copy" of the thread that copies.
  ProcessMemory& Connect(Node& node, int host, pid_t pid);

 private:
  class Process;

  World& world_;
  const Place& copy_;
  std::map<pid_t, std::unique_ptr<Process>> processes_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_NETWORK_SIM_PROCESS_MEMORY_H_
