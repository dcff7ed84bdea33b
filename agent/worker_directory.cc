#include "agent/worker_directory.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"

namespace reprise {

bool IsWorkerName(std::string_view name) {
  return !name.empty() && name.size() < kMaxWorkerName &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == ':';
         });
}

WorkerDirectory::WorkerDirectory(std::vector<WorkerInfo> workers, WorkerId self)
    : workers_(std::move(workers)), self_(self) {
  for (const WorkerInfo& worker : workers_) by_name_.push_back(worker.id);
  std::sort(by_name_.begin(), by_name_.end(), [this](WorkerId a, WorkerId b) {
    return workers_[a].name < workers_[b].name;
  });
}

const WorkerInfo* WorkerDirectory::Find(WorkerId id) const {
  if (id < 0 || static_cast<size_t>(id) >= workers_.size()) return nullptr;
  return &workers_[id];
}

const WorkerInfo* WorkerDirectory::Find(std::string_view name) const {
  const auto found =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [this](WorkerId id, std::string_view wanted) {
                         return workers_[id].name < wanted;
                       });
  if (found == by_name_.end() || workers_[*found].name != name) return nullptr;
  return &workers_[*found];
}

}  // namespace reprise
