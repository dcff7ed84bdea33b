// Who is in the group. Immutable, thread-safe, no locks.

#ifndef REPRISE_AGENT_WORKER_DIRECTORY_H_
#define REPRISE_AGENT_WORKER_DIRECTORY_H_

#include <cstddef>
#include <string_view>
#include <vector>

#include "agent/options.h"

namespace reprise {

inline constexpr size_t kMaxWorkerName = 128;

// [A-Za-z0-9-_:]+, shorter than `kMaxWorkerName`.
bool IsWorkerName(std::string_view name);

class WorkerDirectory {
 public:
  // `workers[i].id` must be i, and names unique.
  WorkerDirectory(std::vector<WorkerInfo> workers, WorkerId self);

  const WorkerInfo& self() const { return workers_[self_]; }
  size_t size() const { return workers_.size(); }
  const std::vector<WorkerInfo>& workers() const { return workers_; }
  const WorkerInfo& at(WorkerId id) const { return workers_[id]; }

  // Null when there is none.
  const WorkerInfo* Find(WorkerId id) const;
  const WorkerInfo* Find(std::string_view name) const;

 private:
  const std::vector<WorkerInfo> workers_;
  std::vector<WorkerId> by_name_;
  const WorkerId self_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_WORKER_DIRECTORY_H_
