// Names a worker of a group: its name, its id, and what both may be.

#ifndef REPRISE_AGENT_WORKER_INFO_H_
#define REPRISE_AGENT_WORKER_INFO_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace reprise {

// A worker's number in its group, 0 .. 32767: the rank in a static group.
using WorkerId = int16_t;

struct WorkerInfo {
  std::string name;
  WorkerId id = 0;
  friend bool operator==(const WorkerInfo&, const WorkerInfo&) = default;
};

// A worker joined a dynamic group, or left it.
struct MembershipChange {
  WorkerInfo worker;
  bool joined = false;
};

// As `AgentOptions::world_size`: the group is dynamic, and members come and go
// (docs/groups.md).
inline constexpr int64_t kDynamicGroup = 0;
// As `AgentOptions::id` in a dynamic group: an id that is free
// (docs/groups.md).
inline constexpr int64_t kAnyId = -1;

// A worker's name is shorter than this many characters.
inline constexpr size_t kMaxWorkerName = 128;

// Whether `name` matches [A-Za-z0-9-_:]+ and is shorter than `kMaxWorkerName`.
bool IsWorkerName(std::string_view name);

}  // namespace reprise

#endif  // REPRISE_AGENT_WORKER_INFO_H_
